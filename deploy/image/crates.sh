#!/bin/sh
# deploy/image/crates.sh FEATURE   The crates that are linked into the program of a feature, `name vVERSION|LICENCE` each.
#
# What tools/sbom.py reads. Neither what runs at build time, nor what only tests use.

set -eu
cd "$(dirname "$0")/../.."
exec cargo tree --locked --edges normal,no-proc-macro --no-default-features --features "$1" --prefix none --no-dedupe \
    --format '{p}|{l}'
