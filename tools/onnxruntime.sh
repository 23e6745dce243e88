# To be sourced: . tools/onnxruntime.sh onnxruntime-cuda
#
# Has programs load what tools/fetch.py fetched under that name, unless ORT_DYLIB_PATH names another library already. Its
# providers look for CUDA's libraries where the system's loader does.

if [ -z "$ORT_DYLIB_PATH" ] && [ "$1" != onnxruntime ]; then
    directory=$(pwd)/.deps/$1/lib
    ORT_DYLIB_PATH=$directory/libonnxruntime.so
    LD_LIBRARY_PATH=$directory${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export ORT_DYLIB_PATH LD_LIBRARY_PATH
fi
