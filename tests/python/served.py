"""The real `restain serve` on a free port, on the small bundle of tests/fixtures: what every test in Python talks to."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "tests/fixtures/bundle-tiny"
SIDE = json.loads((FIXTURE / "bundle.json").read_text())["geometry"]["image_size"]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# The program under test: what `cargo test` has built, unless another is named.
PROGRAM = Path(os.environ.get("RESTAIN_PROGRAM", TARGET / "debug/restain"))


def environment():
    """This process's, without the server's own options, with the library that it loads."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RESTAIN_")}
    return {"ORT_DYLIB_PATH": str(ROOT / ".deps/onnxruntime/lib/libonnxruntime.so"), **own}


def until(holds, seconds=60):
    """Polls until `holds()` is true, and returns its value; fails after `seconds`.

    For what a program outside this process reports only when it is asked, such as metrics: there is no event to wait for.
    """
    end = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < end, f"the condition did not hold within {seconds} s"
        time.sleep(0.02)
    return value


def install(models, name="tiny", version="1", **fields):
    """Puts the fixture into a models directory under a name and version, with these fields in its manifest."""
    home = Path(models) / name / version
    shutil.copytree(FIXTURE, home)
    manifest = json.loads((home / "bundle.json").read_text())
    manifest |= {"name": name, "version": version, **fields}
    (home / "bundle.json").write_text(json.dumps(manifest))
    return home


class Served:
    """One running server. `http` and `grpc` are its addresses, host:port."""

    def __init__(self, folder, *flags, models=None):
        self.folder = Path(folder)
        # A directory, or a URL.
        self.models = models or self.folder / "models"
        if not models:
            install(self.models)
        self.flags = [str(flag) for flag in flags]
        self.http, self.grpc = "127.0.0.1:0", "127.0.0.1:0"
        self.start()

    def start(self):
        """Starts it; once it has had addresses, on the same again."""
        flags = ["--http", self.http, "--grpc", self.grpc, "--threads", "1", "--models", str(self.models), *self.flags]
        self.log = open(self.folder / "log", "ab")
        command = [str(PROGRAM), "serve", *flags]
        self.process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=self.log, text=True)
        for line in self.process.stdout:
            if line.startswith("ready on http"):
                self.scheme, self.http = line.removeprefix("ready on ").split()[0].split("://")
            if line.startswith("gRPC on "):
                self.grpc = line.removeprefix("gRPC on ").split()[0]
                return
        self.kill()
        raise RuntimeError(f"the server did not start: {(self.folder / 'log').read_text()}")

    @property
    def url(self):
        return f"{self.scheme}://{self.http}"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


@pytest.fixture
def serve(tmp_path_factory):
    """Starts servers with options of the test's own; they end with it."""
    running = []

    def start(*flags, **options):
        running.append(Served(tmp_path_factory.mktemp("served"), *flags, **options))
        return running[-1]

    yield start
    for server in running:
        server.kill()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One server with the options of everyone, for tests that leave it as it was."""
    server = Served(tmp_path_factory.mktemp("served"))
    yield server
    server.kill()


def tiles(count, side=SIDE, seed=0):
    """uint8 [count, side, side, 3]: pink noise of a tile's lightness, another for every seed."""
    noise = np.random.default_rng(seed).integers(0, 40, (count, side, side, 3), dtype=np.uint8)
    return noise + np.array([200, 150, 190], np.uint8)
