# To be sourced by any shell: ONNXRUNTIME=onnxruntime-cuda; . tools/onnxruntime.sh
#
# Has programs load what tools/fetch.py fetched under that name, unless ORT_DYLIB_PATH names another library already. Its
# providers look for CUDA's libraries where the system's loader does. What is called onnxruntime is found without this.

if [ -z "$ORT_DYLIB_PATH" ] && [ "$ONNXRUNTIME" = onnxruntime-cuda ]; then
    ORT_DYLIB_PATH=$PWD/.deps/onnxruntime-cuda/lib/libonnxruntime.so
    LD_LIBRARY_PATH=$PWD/.deps/onnxruntime-cuda/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export ORT_DYLIB_PATH LD_LIBRARY_PATH
fi
