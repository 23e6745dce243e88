"""What README.md and docs/ show is run as it stands, block after block, in an empty folder, with the packages that the text
says to install and nothing else.

The folder holds what the text made, and what a clone has under the names that the text uses (`docs`, `proto`). What installs
or builds is not run: it decides what the environment has. A block of `text` after one of Python is its output, to the letter.
"""

import os
import re
import shlex
import signal
import subprocess
import tarfile

import pytest
from packed import install_named
from PIL import Image
from served import PROGRAM, ROOT, Served, environment

# What a walk cannot do: it installs, builds, needs a cluster, or stands for files of the reader's own.
NOT_RUN = re.compile(r"pip install|^make |python3 -m venv|kubectl|docker", re.M)
STUCK = 300


def blocks(text):
    """Returns the blocks of a page as pairs of language and content."""
    return re.findall(r"^```(sh|python|text)\n(.*?)^```", text, re.M | re.S)


def installed(text):
    """Returns what a page says to install by name."""
    words = [word for line in re.findall(r"pip install ([^`\n]*)", text) for word in shlex.split(line.split("&&")[0], comments=True)]
    return sorted({word for word in words if re.fullmatch(r"[a-z][\w-]*(\[[\w,]+\])?", word)})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    state = tmp_path_factory.mktemp("state")
    server = Served(tmp_path_factory.mktemp("demo"), "--state", state, models=ROOT / "models")
    yield server
    server.kill()


class Walk:
    """One reader of one page: a folder, an environment, and the addresses of the server that answers."""

    def __init__(self, folder, page, wheels):
        self.folder, self.text = folder / "here", page.read_text()
        self.folder.mkdir()
        for name in ("docs", "proto"):
            (self.folder / name).symlink_to(ROOT / name)
        self.bin = install_named(installed(self.text), wheels, folder / "env")
        self.addresses = {}
        self.further = {}
        self.serving = None
        self.printed = []

    @property
    def variables(self):
        # Threads of PyTorch wait for each other on a machine that does other work.
        own = {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.folder), "OMP_NUM_THREADS": "1"}
        return {**own, "RESTAIN_HTTP": "127.0.0.1:0", "RESTAIN_GRPC": "127.0.0.1:0", "RESTAIN_THREADS": "1", "RESTAIN_DRAIN_DELAY": "0s", **self.further}

    def served_by(self, server):
        self.addresses = {"127.0.0.1:8080": server.http, "127.0.0.1:8081": server.grpc}

    def here(self, code):
        for shown, real in self.addresses.items():
            code = code.replace(shown, real)
        return code

    def go(self):
        """Runs the blocks in order; those of Python are one session, which runs when the last of them has been read."""
        session, expected = [], []
        parts = blocks(self.text)
        last = max((place for place, (language, _) in enumerate(parts) if language == "python"), default=None)
        for place, (language, code) in enumerate(parts):
            if language == "python":
                session.append(code)
                if place + 1 < len(parts) and parts[place + 1][0] == "text":
                    expected.append(parts[place + 1][1])
                if place == last:
                    (self.folder / "session.py").write_text(self.here("".join(session)))
                    output = self.run("python", "-W", "ignore", "session.py")
                    assert not expected or output == "".join(expected)
            elif language == "sh" and not NOT_RUN.search(code):
                self.shell(code)

    def shell(self, code):
        commands, serves, rest = code.partition("restain serve")
        if commands.strip():
            self.printed.append(self.run("bash", "-euo", "pipefail", "-c", self.here(commands)))
        if serves:
            self.serve(f"exec {serves}{rest}")

    def run(self, *command):
        done = subprocess.run(command, cwd=self.folder, env=self.variables, capture_output=True, text=True, timeout=STUCK)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        assert '"urn:restain:' not in done.stdout, f"{command}: {done.stdout}"
        return done.stdout

    def serve(self, command):
        """Starts the server of the page, after its earlier one has drained, and waits until it is ready."""
        self.stop()
        with open(self.folder.parent / "log", "ab") as log:
            self.serving = subprocess.Popen(["bash", "-c", command], cwd=self.folder, env=self.variables, stdout=subprocess.PIPE, stderr=log, text=True)
        ready, grpc = self.serving.stdout.readline(), self.serving.stdout.readline()
        assert ready.startswith("ready on "), (self.folder.parent / "log").read_text()
        self.addresses = {"127.0.0.1:8080": ready.split()[2].removeprefix("http://"), "127.0.0.1:8081": grpc.split()[2]}
        self.said = ready + grpc

    def stop(self):
        if self.serving:
            self.serving.send_signal(signal.SIGINT)
            # What a program returns that Ctrl-C has ended.
            assert self.serving.wait(STUCK) == 128 + signal.SIGINT
            self.serving.stdout.close()
            self.serving = None


@pytest.fixture
def walk(tmp_path, wheels):
    walks = []

    def walk(page):
        walks.append(Walk(tmp_path, ROOT / page, wheels))
        return walks[-1]

    yield walk
    for one in walks:
        if one.serving:
            one.serving.kill()
            one.serving.wait()
            one.serving.stdout.close()


def height(path):
    with Image.open(path) as picture:
        return picture.size[1]


@pytest.mark.parametrize("page", ["README.md", "docs/http.md", "docs/grpc.md", "docs/wire.md", "docs/encode.md"])
def test_a_page_runs_as_it_is_written(page, walk, server):
    one = walk(page)
    one.served_by(server)
    one.go()
    pictures = [path for path in one.folder.glob("variant*.*") if path.suffix in (".png", ".jpg")]
    assert all(height(path) >= 96 for path in pictures)
    assert pictures or page not in ("README.md", "docs/http.md")


def test_the_first_hour_runs_as_it_is_written(walk):
    one = walk("docs/first-hour.md")
    # As it is written, the toy is trained for minutes; a flag would take precedence over this.
    one.further = {"RESTAIN_TRAIN_STEPS": "50"}
    one.go()
    assert height(one.folder / "variants.png") == 104
    assert (one.folder / "models/ours/1/bundle.json").is_file()
    # The page shows what the server says.
    for line in re.findall(r"```text\n(ready on .*?)```", one.text, re.S)[0].splitlines()[:2]:
        assert one.here(line) in one.said
    one.stop()


def test_a_page_has_only_the_packages_that_it_names(walk):
    one = walk("docs/wire.md")
    assert installed(one.text) == ["blake3", "numpy", "pillow", "requests", "safetensors"]
    one.run("python", "-c", "import blake3, numpy, PIL, requests, safetensors")
    with pytest.raises(AssertionError, match="No module named 'torch'"):
        one.run("python", "-c", "import torch")


def test_an_answer_over_4_mib_needs_the_option_that_the_page_names(walk, server):
    one = walk("docs/grpc.md")
    one.served_by(server)
    stubs, code = [code for language, code in blocks(one.text) if language != "text"][:2]
    one.shell(stubs)
    # Three tiles in 64 variants each: 5 MiB of pixels.
    code = one.here(code).replace(".read()]", ".read()] * 3").replace("variants=4", "variants=64")
    code = code.replace("FORMAT_PNG", "FORMAT_PIXELS") + "print(answer.ByteSize())\n"
    assert int(one.run("python", "-W", "ignore", "-c", code).split()[-1]) > 5 << 20
    with pytest.raises(AssertionError, match="RESOURCE_EXHAUSTED"):
        one.run("python", "-c", code.replace(", options=options", ""))


def test_a_data_set_is_augmented_as_it_is_written(tmp_path):
    # The folders of the reader's own that the page names.
    [code] = [code for language, code in blocks((ROOT / "docs/datasets.md").read_text()) if language == "sh"]
    tile = Image.open(ROOT / "docs/tile.png")
    (tmp_path / "data/tiles").mkdir(parents=True)
    tile.save(tmp_path / "data/tiles/a.png")
    (tmp_path / "shards").mkdir()
    for number in range(16):
        with tarfile.open(tmp_path / f"shards/train-{number:06}.tar", "w") as tar:
            tar.add(ROOT / "docs/tile.png", f"tile{number}.png")
    variables = {**environment(), "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "RESTAIN_AUGMENT_MODELS": str(ROOT / "models")}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", code], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=STUCK)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "data/augmented").glob("*.png"))) == 4
    assert [tar.name for tar in (tmp_path / "shards/out").glob("*.tar")] == ["train-000003.tar"]


def test_readme_is_one_page_with_short_snippets():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 170
    for language, block in blocks(text):
        assert language != "python" or len([line for line in block.splitlines() if line.strip()]) <= 10, block
