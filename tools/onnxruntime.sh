# To be sourced by any shell: ONNXRUNTIME=onnxruntime-cuda; . tools/onnxruntime.sh
#
# Selects the ONNX Runtime that tools/fetch.py fetched under that name, unless ORT_DYLIB_PATH is set. LD_LIBRARY_PATH is for
# its providers, which find CUDA's libraries through the system's loader. Programs find `onnxruntime` without this script.

if [ -z "$ORT_DYLIB_PATH" ] && [ "$ONNXRUNTIME" = onnxruntime-cuda ]; then
    ORT_DYLIB_PATH=$PWD/.deps/onnxruntime-cuda/lib/libonnxruntime.so
    LD_LIBRARY_PATH=$PWD/.deps/onnxruntime-cuda/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export ORT_DYLIB_PATH LD_LIBRARY_PATH
fi
