"""The wheels, packed once for all tests from the programs that `cargo test` has built, and environments that have what a text
says to install, and nothing else."""

import os
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import required
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from served import ROOT, TARGET

BUILT = Path(os.environ.get("RESTAIN_WHEELS_FROM", TARGET / "debug"))
OURS = {"restain": "restain", "restain-server": "restain_server", "restain-train": "restain_train"}


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """Packs the three wheels."""
    for name in ("restain", "restain-train", "librestain_local.so"):
        if not (BUILT / name).is_file():
            required.missing(f"{BUILT / name} is not built: make test builds it")
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, ROOT / "tools/wheels.py", out, "--server", BUILT], check=True)
    return {wheel.name.split("-")[0]: wheel for wheel in out.glob("*.whl")}


def install(wheels, folder):
    """Makes an environment with these wheels, without what they require."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    if wheels:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin/python", "install", "--quiet"]
        subprocess.run([*pip, "--no-index", "--no-deps", *wheels], check=True)


def install_named(names, wheels, folder):
    """Makes an environment as `pip install NAMES` would, without a download: with our wheels, and links to the packages of the
    tests' environment that the names and their requirements stand for."""
    ours = {name for name, _ in closure(names) if name in OURS}
    install([wheels[OURS[name]] for name in sorted(ours)], folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name, files in closure(names):
        for top in {file.parts[0] for file in files or () if name not in OURS}:
            source = Path(distribution(name).locate_file(top))
            if top not in ("..", "__pycache__") and not (packages / top).exists():
                (packages / top).symlink_to(source)
    return folder / "bin"


def closure(names):
    """Yields the names of packages and of all that they require, with their files."""
    seen, waiting = {}, [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if wanted.extras <= seen.get(name, set()) and name in seen:
            continue
        seen[name] = seen.get(name, set()) | wanted.extras
        for line in requirements(name):
            one = Requirement(line)
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in {"", *seen[name]}):
                waiting.append(one)
    for name in seen:
        try:
            yield name, distribution(name).files
        except PackageNotFoundError:
            # What the tests' environment has not, as setuptools, or what comes as a wheel of ours.
            yield name, ()


def requirements(name):
    if name in ("restain-server", "restain-train"):
        return {"restain-server": ["onnxruntime"], "restain-train": ["onnxruntime", "torch"]}[name]
    try:
        return distribution(name).requires or []
    except PackageNotFoundError:
        return []


def behind():
    """The directories of this environment's packages."""
    return {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *(path for path in sys.path if path.endswith(("site-packages", "dist-packages")))}
