#!/bin/sh
# deploy/image/crates.sh PACKAGE   Prints the crates that are linked into a package's program, as `name vVERSION|LICENCE`.
#
# tools/sbom.py reads the list. It excludes build scripts, procedural macros and test dependencies.

set -eu
cd "$(dirname "$0")/../.."
exec cargo tree --locked --edges normal,no-proc-macro --package "$1" --prefix none --no-dedupe \
    --format '{p}|{l}'
