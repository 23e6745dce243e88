#!/bin/bash
# Builds the fuzzers as cargo-fuzz would, on a stable toolchain, and runs each for SECONDS (60) from its corpus. What it learns
# goes to fuzz/found, what makes a decoder fail to fuzz/artifacts, and then this fails.
#
#   fuzz/run.sh [NAME…]

set -euo pipefail
cd "$(dirname "$0")"

host=$(rustc -vV | sed -n 's/^host: //p')
# Branches counted, comparisons told to the fuzzer, checksums of pictures ignored (`fuzzing`). With --target, so that build
# scripts and macros, which nobody fuzzes, are built as ever.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
export CARGO_ENCODED_RUSTFLAGS=
CARGO_ENCODED_RUSTFLAGS=$(printf '%s\x1f' --cfg fuzzing $coverage)
CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS%$'\x1f'}
target=${FUZZ_TARGET_DIR:-$PWD/target}
# The versions that the server is built with, and the fuzzer's own beside them.
cp ../Cargo.lock Cargo.lock
cargo build --release --target "$host" --target-dir "$target"

names=${*:-$(sed -n 's/^name = "\(.*\)"$/\1/p' Cargo.toml | tail -n +2)}
failed=
for name in $names; do
    mkdir -p "found/$name" "artifacts/$name"
    echo "== $name for ${SECONDS_EACH:-60} s"
    "$target/$host/release/$name" "found/$name" "corpus/$name" -max_total_time="${SECONDS_EACH:-60}" -artifact_prefix="artifacts/$name/" \
        -timeout=10 -rss_limit_mb=1024 -max_len="${MAX_LEN:-65536}" -print_final_stats=1 -verbosity=0 || failed="$failed $name"
done
[ -z "$failed" ] || { echo "failed:$failed (inputs in fuzz/artifacts)"; exit 1; }
