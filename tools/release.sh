#!/bin/bash
# tools/release.sh VERSION            Checks, builds and tags a release, and prints how to push it. Pushes nothing.
# tools/release.sh --dry-run VERSION  Checks what a release needs, and prints the steps that would follow.
# tools/release.sh build VERSION      Builds the files of a release into target/release-files, for CI.
#
# VERSION, for example 0.2.0, must be the one that the workspace, the Python package and the changelog name.

set -euo pipefail
cd "$(dirname "$0")/.."
files=target/release-files

fail() {
    echo "release: $*" >&2
    exit 1
}

# Checks that a file names the version: expect FILE WHAT LINE
expect() {
    grep -qxF -- "$3" "$1" || fail "$1: $2 is not $version: expected the line \`$3\`"
}

check_versions() {
    [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]] \
        || fail "VERSION is '$version', and must be a version such as 0.2.0"
    expect Cargo.toml "the workspace's version" "version = \"$version\""
    expect clients/python/src/restain/version.py "the packages' version" "__version__ = \"$version\""
    expect Dockerfile "the image's label" "      org.opencontainers.image.version=\"$version\""
    expect CITATION.cff "the cited version" "version: $version"
    grep -q "^## $version\b" CHANGELOG.md || fail "CHANGELOG.md has no heading \`## $version\`: rename \`## Unreleased\`"
}

check_tree() {
    local changed
    changed=$(git status --porcelain)
    [ -z "$changed" ] || fail "the working tree has changes that are not committed:"$'\n'"$changed"
    ! git rev-parse -q --verify "refs/tags/v$version" >/dev/null || fail "the tag v$version exists already"
}

# The part of the changelog between this version's heading and the next.
notes() {
    awk -v heading="## $version" 'index($0, "## ") == 1 { on = index($0, heading) == 1; next } on' CHANGELOG.md
}

build() {
    rm -rf "$files" dist
    mkdir -p "$files"
    make --no-print-directory wheels sbom
    cp dist/*"-$version-"*.whl "$files"
    cp target/sbom.cdx.json "$files/restain-$version.cdx.json"
    (cd clients/python && ../../.deps/wheels/bin/python -m hatchling build --target sdist --directory "../../$files")
    notes > "$files/notes.md"
    (cd "$files" && sha256sum -- * > SHA256SUMS)
    ls -l "$files"
}

mode=release
case ${1:-} in
    --dry-run) mode=dry-run; shift ;;
    build) mode=build; shift ;;
esac
version=${1:-}
check_versions
[ "$mode" = build ] && { build; exit; }
check_tree

if [ "$mode" = dry-run ]; then
    echo "restain $version is ready for a release from $(git rev-parse --short HEAD). It would run:"
    echo "  make check"
    echo "  tools/release.sh build $version      # writes $files"
    echo "  git tag --annotate v$version"
    exit
fi
make check
build
notes | git tag --annotate --cleanup=verbatim --file=- "v$version"
echo "tagged v$version; to publish it: git push origin v$version"
