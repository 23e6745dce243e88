#!/bin/sh
# tools/need.sh TOOL...   Prints one line and exits 1 for the first tool that is missing or too old; otherwise prints nothing.
#
# The Makefile runs it first, because cargo reports a missing compiler only minutes later, from a dependency's build
# script, without the name of the tool or its package.

set -u
cd "$(dirname "$0")/.." || exit 1

missing() {
    echo "missing: $1 (Debian package: $2)" >&2
    exit 1
}

cargo_is_new_enough() {
    minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(cargo --version | cut -d ' ' -f 2)
    oldest=$(printf '%s\n%s\n' "$minimum" "$found" | sort -V | head -n 1)
    if [ "$oldest" != "$minimum" ]; then
        echo "cargo $found is too old: restain needs Rust $minimum or newer (rustup update stable)" >&2
        exit 1
    fi
}

for tool in "$@"; do
    case $tool in
        cargo)
            command -v cargo >/dev/null || missing cargo rustup
            cargo_is_new_enough
            ;;
        pip) python3 -m pip --version >/dev/null 2>&1 || missing pip python3-pip ;;
        strip) command -v strip >/dev/null || missing strip binutils ;;
        rustfmt) cargo fmt --version >/dev/null 2>&1 || missing rustfmt rustfmt ;;
        clippy) cargo clippy --version >/dev/null 2>&1 || missing clippy rust-clippy ;;
        *) command -v "$tool" >/dev/null || missing "$tool" "$tool" ;;
    esac
done
