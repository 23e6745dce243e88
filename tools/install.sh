#!/bin/sh
# tools/install.sh PROGRAM LIBRARY PREFIX   Installs the server: the program, ONNX Runtime, the demo model, completions for
# shells and manual pages. DESTDIR, if set, is put before PREFIX, for packages. The program finds library and model by its own
# place, so that PREFIX may be any directory, and be moved.

set -eu
cd "$(dirname "$0")/.."
program=$1
library=$2
prefix=${DESTDIR:-}$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

install -D "$program" "$prefix/bin/restain"
install -D -m 644 "$(readlink -f "$library")" "$prefix/lib/restain/libonnxruntime.so"
for file in $(cd models && find demo -type f); do
    install -D -m 644 "models/$file" "$prefix/share/restain/models/$file"
done
for file in LICENSE ThirdPartyNotices.txt; do
    notice=$(dirname "$library")/../$file
    if [ -f "$notice" ]; then install -D -m 644 "$notice" "$prefix/share/doc/restain/onnxruntime/$file"; fi
done
install -D -m 644 LICENSE "$prefix/share/doc/restain/LICENSE"

"$program" man "$scratch/man"
for page in "$scratch"/man/*.1; do
    install -D -m 644 "$page" "$prefix/share/man/man1/${page##*/}"
done
"$program" completions bash > "$scratch/restain"
install -D -m 644 "$scratch/restain" "$prefix/share/bash-completion/completions/restain"
"$program" completions zsh > "$scratch/_restain"
install -D -m 644 "$scratch/_restain" "$prefix/share/zsh/site-functions/_restain"
"$program" completions fish > "$scratch/restain.fish"
install -D -m 644 "$scratch/restain.fish" "$prefix/share/fish/vendor_completions.d/restain.fish"
echo "installed $prefix/bin/restain"
