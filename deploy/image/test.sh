#!/bin/bash
# deploy/image/test.sh [TARGET...]   Builds images and tests them; without arguments `cpu`.
#
# It needs root, buildah and runc, but no container engine and no image registry: bases.sh makes the base images from
# Debian's packages and this machine's Rust. The rest is built as usual.

set -euo pipefail
cd "$(dirname "$0")/../.."
export BUILDAH_ISOLATION=chroot

[ "$(id -u)" = 0 ] || { echo "image-test: needs root, for debootstrap and mounts" >&2; exit 1; }
tools/need.sh buildah debootstrap runc curl rustc python3
deploy/image/bases.sh
revision=$(git rev-parse HEAD)
[ -z "$(git status --porcelain --untracked-files=no)" ] || revision=$revision-changed
for target in "${@:-cpu}"; do
    started=$SECONDS
    buildah build --pull=never --network host --format docker --layers --target "$target" \
        --build-arg REVISION="$revision" --tag "restain:$target" .
    echo "built restain:$target in $((SECONDS - started)) s"
    python3 deploy/image/try.py "restain:$target"
done
