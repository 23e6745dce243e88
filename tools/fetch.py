#!/usr/bin/env python3
"""Fetch the native libraries that restain links or loads, into .deps/ of this checkout.

    tools/fetch.py onnxruntime         ONNX Runtime for CPUs, for both programs      (.deps/onnxruntime)
    tools/fetch.py onnxruntime-cuda    ONNX Runtime and CUDA libraries for GPUs      (.deps/onnxruntime-cuda)
    tools/fetch.py libtorch            libtorch, which `restain-train` links         (.deps/libtorch)

They come from wheels of the Python registry, which pip downloads by name and version and verifies against the sha256
pinned below. Nothing is installed into a Python environment. Existing libraries with the same pins are kept.
ORT_DYLIB_PATH and LIBTORCH override what this script would fetch.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

DEPS = Path(__file__).resolve().parent.parent / ".deps"

# name==version -> {machine: sha256}. One wheel a machine, whatever Python runs this script.
PINS = {
    "onnxruntime==1.31.1": {
        "x86_64": "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
        "aarch64": "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
    },
    "onnxruntime-gpu==1.31.1": {
        "x86_64": "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7",
    },
    "torch==2.11.0": {
        "x86_64": "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756",
        "aarch64": "f99924682ef0aa6a4ab3b1b76f40dc6e273fca09f367d15a524266db100a723f",
    },
    "nvidia-cuda-runtime==13.0.96": {
        "x86_64": "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        "aarch64": "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
    },
    "nvidia-cublas==13.1.0.3": {
        "x86_64": "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",
        "aarch64": "c86fc7f7ae36d7528288c5d88098edcb7b02c633d262e7ddbb86b0ad91be5df2",
    },
    "nvidia-curand==10.4.0.35": {
        "x86_64": "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
        "aarch64": "133df5a7509c3e292aaa2b477afd0194f06ce4ea24d714d616ff36439cee349a",
    },
    "nvidia-cuda-nvrtc==13.0.88": {
        "x86_64": "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
        "aarch64": "d27f20a0ca67a4bb34268a5e951033496c5b74870b868bacd046b1b8e0c3267b",
    },
    "nvidia-cuda-cupti==13.0.85": {
        "x86_64": "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        "aarch64": "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151",
    },
}



def shared(*names):
    """Keeps these shared libraries, whatever their version."""
    return lambda f: any(f.startswith(f"{name}.so") for name in names)


# What each library consists of: requirement -> [(prefix inside the wheel, folder in .deps/NAME, keep(file name))].
LIBRARIES = {
    "onnxruntime": {
        "onnxruntime==1.31.1": [
            ("onnxruntime/capi/", "lib", lambda f: f.startswith("libonnxruntime.so")),
            ("onnxruntime/", "", lambda f: f in ("LICENSE", "ThirdPartyNotices.txt")),
        ],
    },
    "onnxruntime-cuda": {
        "onnxruntime-gpu==1.31.1": [
            ("onnxruntime/capi/", "lib", shared("libonnxruntime", "libonnxruntime_providers_shared", "libonnxruntime_providers_cuda")),
            ("onnxruntime/", "", lambda f: f in ("LICENSE", "ThirdPartyNotices.txt")),
        ],
        # What the provider is linked with, and the compiler that it opens for kernels made at run time. cuDNN and cuFFT,
        # of 0.7 GB, stay out: it opens them for convolutions and Fourier transforms, of which an encoder has none.
        "nvidia-cuda-runtime==13.0.96": [("nvidia/cu13/lib/", "lib", shared("libcudart"))],
        "nvidia-cublas==13.1.0.3": [
            ("nvidia/cu13/lib/", "lib", shared("libcublas", "libcublasLt")),
            # One text for every library of CUDA, in each of their wheels.
            ("nvidia_cublas-13.1.0.3.dist-info/licenses/", "NVIDIA", lambda f: True),
        ],
        "nvidia-curand==10.4.0.35": [("nvidia/cu13/lib/", "lib", shared("libcurand"))],
        "nvidia-cuda-nvrtc==13.0.88": [("nvidia/cu13/lib/", "lib", shared("libnvrtc", "libnvrtc-builtins"))],
    },
    "libtorch": {
        # The CUDA halves stay out: the trainer opens libtorch_cuda.so at run time where there is one.
        "torch==2.11.0": [
            ("torch/include/", "include", lambda f: True),
            ("torch/lib/", "lib", lambda f: ".so" in f and not any(w in f for w in ("cuda", "nvrtc", "python", "nvshmem", "shm"))),
            ("torch/share/cmake/Torch/", "share/cmake/Torch", lambda f: True),
        ],
        "nvidia-cuda-runtime==13.0.96": [("nvidia/cu13/lib/", "lib", lambda f: f.startswith("libcudart.so"))],
        "nvidia-cuda-cupti==13.0.85": [("nvidia/cu13/lib/", "lib", lambda f: f.startswith("libcupti.so"))],
    },
}


def fail(message):
    sys.exit(f"tools/fetch.py: {message}")


def download(requirement, machine, into):
    """One wheel, verified by pip against its pinned digest."""
    sha256 = PINS[requirement].get(machine)
    if sha256 is None:
        fail(f"no pinned wheel of {requirement} for {machine}: set ORT_DYLIB_PATH or LIBTORCH to your own build")
    requirements = Path(into) / "requirements.txt"
    requirements.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    platforms = [f"--platform={tag}_{machine}" for tag in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_25", "manylinux_2_17", "manylinux2014")]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version=3.12", "--implementation=cp", *platforms, "--require-hashes", "-r", str(requirements), "-d", str(into)]
    if subprocess.run(command).returncode != 0:
        fail(f"pip could not download {requirement} (its message is above)")
    (wheel,) = Path(into).glob(f"{requirement.split('==')[0].replace('-', '_')}-*.whl")
    return wheel


def unpack(wheel, rules, target):
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            for prefix, folder, keep in rules:
                name = entry.filename[len(prefix):]
                if entry.is_dir() or not entry.filename.startswith(prefix) or not keep(name):
                    continue
                path = target / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, open(path, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
                break


def link_plain_names(lib):
    """libfoo.so beside libfoo.so.1.2, which is the name that linkers and loaders ask for."""
    for path in sorted(lib.glob("lib*.so.*")):
        plain = lib / (path.name.split(".so.")[0] + ".so")
        if not plain.exists():
            plain.symlink_to(path.name)


def fetch(name):
    machine = platform.machine()
    wanted = {requirement: PINS[requirement].get(machine) for requirement in LIBRARIES[name]}
    target, stamp = DEPS / name, DEPS / name / "pins.json"
    if stamp.is_file() and json.loads(stamp.read_text()) == wanted:
        return
    print(f"fetching {', '.join(LIBRARIES[name])} into {os.path.relpath(target)}", flush=True)
    DEPS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DEPS) as scratch:
        fresh = Path(scratch) / name
        for requirement, rules in LIBRARIES[name].items():
            wheel = download(requirement, machine, scratch)
            unpack(wheel, rules, fresh)
            wheel.unlink()
        link_plain_names(fresh / "lib")
        (fresh / "pins.json").write_text(json.dumps(wanted, indent=1) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)


if __name__ == "__main__":
    if len(sys.argv) < 2 or any(name not in LIBRARIES for name in sys.argv[1:]):
        fail(f"name what to fetch: {' or '.join(LIBRARIES)}")
    for library in sys.argv[1:]:
        fetch(library)
