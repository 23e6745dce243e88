#!/bin/sh
# tools/python.sh   An environment for the tests in Python, in .deps/python of this checkout.
#
# Made by venv and pip from what tests/python/requirements.txt pins, and the package of clients/python as it lies there.
# What is already there, with the same pins, is left alone. Nothing is installed into any other Python.

set -eu
cd "$(dirname "$0")/.."
home=.deps/python
pins=$(cat tests/python/requirements.txt clients/python/pyproject.toml | cksum)

if [ "$(cat "$home/pins" 2>/dev/null)" = "$pins" ]; then
    exit 0
fi
python3 -c 'import ensurepip' 2>/dev/null || { echo "missing: venv (Debian package: python3-venv)" >&2; exit 1; }
rm -rf "$home"
python3 -m venv "$home"
"$home/bin/python" -m pip install --quiet --disable-pip-version-check \
    -r tests/python/requirements.txt --editable 'clients/python'
echo "$pins" > "$home/pins"
