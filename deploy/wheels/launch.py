"""Runs a program that a wheel contains, with the libraries that other packages contain.

The program takes the place of this process: its signals, its exit status and its process id are the program's own.
tools/wheels.py puts this module into the packages restain_server and restain_train.
"""

import os
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path


def folders(package):
    """Returns the directories of an installed package, without importing it."""
    spec = find_spec(package)
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []


def fail(message):
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


def run(package, libraries=()):
    """Runs bin/PROGRAM of `package`, where PROGRAM is the name of this script. `libraries` are directories for the loader."""
    program = Path(package).parent / "bin" / Path(sys.argv[0]).name
    environment, libraries = dict(os.environ), list(libraries)
    if not environment.get("ORT_DYLIB_PATH"):
        capi = next((folder / "capi" for folder in folders("onnxruntime")), None)
        found = sorted(capi.glob("libonnxruntime.so*")) if capi else []
        if not found:
            fail("the package onnxruntime is not installed: pip install onnxruntime, or set ORT_DYLIB_PATH")
        environment["ORT_DYLIB_PATH"] = str(found[-1])
        if (capi / "libonnxruntime_providers_cuda.so").is_file():
            check_gpu(found[-1])
            libraries += [lib for folder in folders("nvidia") for lib in sorted(folder.glob("*/lib"))]
    if libraries:
        given = environment.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = os.pathsep.join([*map(str, libraries), *([given] if given else [])])
    os.execve(program, [str(program), *sys.argv[1:]], environment)


def check_gpu(library):
    """Warns if onnxruntime has overwritten the library of onnxruntime-gpu: they have the same files."""
    try:
        files = metadata.files("onnxruntime-gpu") or ()
    except metadata.PackageNotFoundError:
        return
    if any(file.name == library.name and file.size not in (None, library.stat().st_size) for file in files):
        print(
            "warning: the packages onnxruntime and onnxruntime-gpu have the same files, and onnxruntime, for CPUs only, was "
            "installed last: pip install --force-reinstall --no-deps onnxruntime-gpu",
            file=sys.stderr,
        )
