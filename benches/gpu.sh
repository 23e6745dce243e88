#!/bin/bash
# Every figure of BENCHMARKS.md about GPUs, on any machine with CUDA 13: into runs/gpu, as JSON and as gpu.md.
#
#   benches/gpu.sh                       all of it, on cuda:0: about two hours, one of them for memory
#   benches/gpu.sh --quick               shorter turns and fewer sizes: within eight minutes
#   benches/gpu.sh --device cpu --quick  the same on a CPU, with a small model: whether it works, no figure of a GPU
#   benches/gpu.sh --budget 300          within so many seconds, whatever it is that takes longer
#   benches/gpu.sh encoder curves        parts: encoder attention served step fit curves
#   DATA=fields STEPS=6000 benches/gpu.sh demo
#                                        goes on training the demo model on the fields that docs/results.md names, and
#                                        evaluates it beside the one it came from on the five that are kept out
#
# Builds what it needs, and wants Python with torch 2.11 for CUDA 13, numpy and safetensors: PYTHON names it. On a machine without a
# compiler or a registry, RESTAIN, RESTAIN_TRAIN, ENCODER_BENCH and TRAIN_STEP_BENCH name programs that were built elsewhere, and
# ORT_DYLIB_PATH the library of ONNX Runtime. A part that fails, or takes more than twice its share of the time that is left, is
# named at the end, and does not keep the others from running.

set -uo pipefail
cd "$(dirname "$0")/.."

DEVICE=cuda:0 QUICK= BUDGET= PARTS=()
while [ $# -gt 0 ]; do
    case $1 in
        --device) DEVICE=${2:?--device wants cpu or cuda:N}; shift ;;
        --quick) QUICK=yes ;;
        --budget) BUDGET=${2:?--budget wants seconds}; shift ;;
        encoder | attention | served | step | fit | curves | demo) PARTS+=("$1") ;;
        *) echo "gpu.sh: $1 is neither an option nor a part; see its first lines" >&2; exit 2 ;;
    esac
    shift
done
[ ${#PARTS[@]} -gt 0 ] || PARTS=(encoder attention served step fit curves)
OUT=${OUT:-runs/gpu}
PYTHON=${PYTHON:-.deps/python/bin/python}
mkdir -p "$OUT"

# What cargo says that it has built.
bench() {
    cargo bench --locked --no-run --message-format json "$@" |
        python3 -c 'import json, sys; print([m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable")][-1])'
}

if [ -z "${ORT_DYLIB_PATH:-}" ]; then
    ONNXRUNTIME=onnxruntime ORT_DYLIB_PATH=
    [ "$DEVICE" = cpu ] || ONNXRUNTIME=onnxruntime-cuda
    make --no-print-directory "$ONNXRUNTIME" || exit
    . tools/onnxruntime.sh
    export ORT_DYLIB_PATH=${ORT_DYLIB_PATH:-$PWD/.deps/onnxruntime/lib/libonnxruntime.so}
fi
[ -n "${RESTAIN:-}" ] || { cargo build --release --locked --bin restain && RESTAIN=target/release/restain; } || exit
[ -n "${RESTAIN_TRAIN:-}" ] || { make --no-print-directory train && RESTAIN_TRAIN=target/release/restain-train; } || exit
ENCODER_BENCH=${ENCODER_BENCH:-$(bench --bench encoder)} || exit
TRAIN_STEP_BENCH=${TRAIN_STEP_BENCH:-$(bench -p restain-train --bench step)} || exit

# The trainer opens the GPU half of libtorch where the loader finds it: beside the torch of this Python. The libraries of CUDA that lie
# there serve ONNX Runtime too, where none are beside it.
if [ "$DEVICE" != cpu ]; then
    site=$("$PYTHON" -c 'import os, torch; print(os.path.dirname(os.path.dirname(torch.__file__)))') || exit
    TORCH=$site/torch/lib
    export LD_LIBRARY_PATH=$(dirname "$ORT_DYLIB_PATH")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}$(printf ':%s' "$site"/nvidia/*/lib)
fi
trainer() { LD_LIBRARY_PATH=${TORCH:+$TORCH:}${LD_LIBRARY_PATH:-} "$@"; }

# Ends a command that takes longer than its part may.
limited() {
    [ -n "$BUDGET" ] || { "$@"; return; }
    local left=$((PART_END - SECONDS))
    [ "$left" -gt 0 ] && timeout --kill-after 10 "$left" "$@"
    local status=$?
    [ "$left" -gt 0 ] && [ $status -ne 124 ] || echo "gpu.sh: ended, for what is left of $BUDGET s is for other parts" >&2
    return $status
}

MODEL=base/1 BATCH=64 TRAIN_DEVICE=$DEVICE FIT=(--preset base --batch 128 --precision bf16) FIT_SECONDS=180 FIT_SIDE=256
ENCODER=(--batches 1,8,16,32,64,128,256 --seconds 3 --turns 5) SERVED=(--seconds 15 --turns 5 --minutes 60) STEP=(--turns 15)
if [ -n "$QUICK" ]; then
    ENCODER=(--batches 1,32,64,128 --seconds 1 --turns 3 --compile default) SERVED=(--seconds 4 --turns 2 --minutes 1) STEP=(--turns 5)
    FIT_SECONDS=50
    [ "$DEVICE" = cpu ] || BUDGET=${BUDGET:-480}
fi
if [ "$DEVICE" = cpu ]; then
    MODEL=small/1 BATCH=2 FIT=(--preset small --batch 4) FIT_SECONDS=20 FIT_SIDE=96
    ENCODER+=(--batches 1,2 --compile none) SERVED+=(--tiles 4 --concurrency 2 --threads 1 --minutes 0.3) STEP+=(--only "small, batch 16, cross 1 mix, f32" --turns 2)
fi
if [ ! -f "runs/models/$MODEL/bundle.json" ]; then
    trainer "$RESTAIN_TRAIN" init --preset "${MODEL%/*}" --out "runs/models/$MODEL" || exit
fi

encoder() {
    limited "$PYTHON" benches/encoder.py --program "$ENCODER_BENCH" --bundle "runs/models/$MODEL" --device "$DEVICE" --precision fp16 \
        --eager "${ENCODER[@]}" --json "$OUT/encoder.json"
}

# Which fused attention is fastest at so few tokens: by itself ONNX Runtime takes flash attention from 513 on.
attention() {
    local name
    for name in "" ORT_MIN_SEQ_LEN_FLASH_ATTENTION_PACKED_QKV=1 ORT_DISABLE_FLASH_ATTENTION=1 ORT_DISABLE_FUSED_ATTENTION=1; do
        printf '%-44s' "${name:-as it is}"
        echo "run $BATCH 2" | limited env ${name:+"$name"} "$ENCODER_BENCH" "runs/models/$MODEL" "$DEVICE" fp16 | tail -n 1
    done | tee "$OUT/attention.txt"
}

served() {
    limited "$PYTHON" benches/served.py --restain "$RESTAIN" --encoder "$ENCODER_BENCH" --models runs/models --bundle "$MODEL" --device "$DEVICE" \
        --precision fp16 --batch "$BATCH" "${SERVED[@]}" --json "$OUT/served.json"
}

step() {
    trainer limited "$PYTHON" benches/train_step.py --program "$TRAIN_STEP_BENCH" --device "$TRAIN_DEVICE" "${STEP[@]}" --json "$OUT/step.json"
}

# All of training, input included: its own progress every fifteen seconds, and what the driver says of the GPU meanwhile.
fit() {
    local folder=$OUT/fit watcher=
    rm -rf "$folder"
    trainer limited "$RESTAIN_TRAIN" phantom --out "$folder/tiles" --hospitals 3 --tiles-per-domain 100 --size "$FIT_SIDE" || return
    if [ "$DEVICE" != cpu ]; then
        nvidia-smi --query-gpu=utilization.gpu,power.draw --format=csv,noheader --id="${DEVICE#cuda:}" --loop=1 >"$folder/smi.csv" &
        watcher=$!
    fi
    # Interrupted, as by Ctrl-C.
    trainer limited timeout --signal INT --kill-after 20 "$FIT_SECONDS" "$RESTAIN_TRAIN" fit --data "$folder/tiles" --out "$folder/models/fit/1" \
        --state "$folder/state" --device "$TRAIN_DEVICE" --steps 1000000 --validation-share 0 --validate-every 0 --samples-every 0 \
        --save-every 1000000 "${FIT[@]}" 2>"$folder/log"
    [ -z "$watcher" ] || kill "$watcher"
    cat "$folder/log" >&2
    grep -o 'step [0-9]*/.*waiting for input' "$folder/log" || return
    [ "$DEVICE" = cpu ] || sort -n "$folder/smi.csv" | awk '{ all[NR] = $0 } END { print "utilisation and power, median of seconds: " all[int((NR + 1) / 2)] }'
}

curves() {
    trainer limited "$PYTHON" benches/curves.py --restain-train "$RESTAIN_TRAIN" --device "$TRAIN_DEVICE" --json "$OUT/curves.json"
}

# MINUTES stop it as Ctrl-C would; the bundle is then of what is there.
demo() {
    local held=centre_0/patient_101_node_4_2.jpg,centre_1/centre_1_patient_024_node_2.jpeg,centre_2/domain_2_7596.png
    held=$held,centre_3/domain_3_10995.png,centre_4/domain_4_17868.png
    local state=$OUT/demo-state bundle=$OUT/models/demo/9
    local batch=${DEMO_BATCH:-64} steps=${STEPS:-6000}
    rm -rf "$state" "$bundle"
    trainer timeout --signal INT "$((${MINUTES:-8} * 60))" "$RESTAIN_TRAIN" fit --from models/demo/9 --data "${DATA:?DATA wants the folder of fields}" \
        --exclude "$held" --out "$bundle" --state "$state" --device "$TRAIN_DEVICE" --precision bf16 --batch "$batch" --steps "$steps" \
        --recipe paired --paired-largest-crop 4 --paired-change-weight 2 --warm-up-steps 30 --grad-clip 1 --learning-rate 4e-4 --seed 4 \
        --save-every 200 --validate-every 0 --samples-every 0
    [ -f "$bundle/bundle.json" ] || trainer "$RESTAIN_TRAIN" export "$state" --out "$bundle" || return
    local each
    for each in models/demo/9 "$bundle"; do
        trainer "$RESTAIN_TRAIN" evaluate --bundle "$each" --data "$DATA" --only "$held" --json "$OUT/demo-${each##*/}.json" || return
    done
}

{
    echo "# $DEVICE, $(date -u +%Y-%m-%d), \`benches/gpu.sh${QUICK:+ --quick} --device $DEVICE ${PARTS[*]}\`"
    echo
    [ "$DEVICE" = cpu ] || nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader
    "$PYTHON" -c 'import torch; print("torch", torch.__version__, "CUDA", torch.version.cuda)'
    "$RESTAIN" --version
    nproc
} | tee "$OUT/gpu.md"

FAILED=() TOGO=${#PARTS[@]}
for part in "${PARTS[@]}"; do
    if [ -n "$BUDGET" ]; then
        LEFT=$((BUDGET - SECONDS))
        PART_END=$((SECONDS + (TOGO > 1 ? LEFT * 2 / TOGO : LEFT)))
    fi
    TOGO=$((TOGO - 1))
    printf '\n## %s (at %s s)\n\n' "$part" "$SECONDS" | tee -a "$OUT/gpu.md"
    "$part" 2>"$OUT/$part.err" | tee -a "$OUT/gpu.md"
    if [ "${PIPESTATUS[0]}" -ne 0 ]; then
        FAILED+=("$part")
        tail -n 20 "$OUT/$part.err" | tee -a "$OUT/gpu.md"
    fi
done
if [ ${#FAILED[@]} -gt 0 ]; then
    echo "gpu.sh: failed: ${FAILED[*]}; what they said is in $OUT/*.err" | tee -a "$OUT/gpu.md" >&2
    exit 1
fi
echo "gpu.sh: all of it in $OUT (at $SECONDS s)"
