#!/bin/sh
# deploy/image/crates.sh PACKAGE   The crates that are linked into the program of a package, `name vVERSION|LICENCE` each.
#
# What tools/sbom.py reads. Neither what runs at build time, nor what only tests use.

set -eu
cd "$(dirname "$0")/../.."
exec cargo tree --locked --edges normal,no-proc-macro --package "$1" --prefix none --no-dedupe \
    --format '{p}|{l}'
