#!/bin/sh
# tools/python.sh   Creates the environment of the Python tests, in .deps/python of this checkout.
#
# venv and pip install the packages that tests/python/requirements.txt pins, and clients/python as an editable package. An
# existing environment with the same pins is kept. Nothing is installed into another Python.

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
