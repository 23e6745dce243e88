"""What README.md and docs/ show is run, as it stands, against the demo model."""

import os
import re
import shutil
import subprocess
import sys
import tarfile

import pytest
from PIL import Image
from served import PROGRAM, ROOT, Served, environment

# A block that talks to a server; others build, train or stand for files that nobody has.
ADDRESSES = ("127.0.0.1:8080", "127.0.0.1:8081")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    state = tmp_path_factory.mktemp("state")
    server = Served(tmp_path_factory.mktemp("demo"), "--state-dir", state, models=ROOT / "models")
    yield server
    server.kill()


@pytest.fixture
def folder(tmp_path):
    """A working directory with the files that the texts name, and the stubs that README says how to make."""
    for name in ["tile.png", "a.png", "b.png"]:
        Image.open(ROOT / "docs/tile.png").convert("RGB").resize((96, 96)).save(tmp_path / name)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    return tmp_path


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def sections(path, language):
    """The blocks of each section together: they build on each other, and on no other section."""
    for section in re.split(r"^#+ ", path.read_text(), flags=re.M):
        found = blocks(section, language)
        if any(address in block for block in found for address in ADDRESSES):
            yield pytest.param("\n".join(found), id=f"{path.stem}-{section.splitlines()[0]}".replace(" ", "-"))


def here(code, server):
    return code.replace("127.0.0.1:8080", server.http).replace("127.0.0.1:8081", server.grpc)


def run(command, folder, env=None):
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


DOCUMENTS = [ROOT / "README.md", ROOT / "docs/wire.md"]


@pytest.mark.parametrize("code", [section for path in DOCUMENTS for section in sections(path, "python")])
def test_python_runs_as_it_is_written(code, server, folder):
    if "restain_pb2" in code:
        run(stubs(folder), ROOT)
    (folder / "snippet.py").write_text(here(code, server))
    run([sys.executable, "-W", "ignore", "snippet.py"], folder)


def test_an_answer_over_4_mib_needs_the_option_that_readme_names(server, folder):
    [code] = [block for block in blocks((ROOT / "README.md").read_text(), "python") if "restain_pb2" in block]
    # Three tiles in 64 variants each: 5 MiB of pixels.
    code = here(code, server).replace(".read()]", ".read()] * 3").replace("variants=4", "variants=64")
    code = code.replace("FORMAT_PNG", "FORMAT_PIXELS") + "print(answer.ByteSize())\n"
    run(stubs(folder), ROOT)
    (folder / "large.py").write_text(code)
    assert int(run([sys.executable, "-W", "ignore", "large.py"], folder).split()[-1]) > 5 << 20
    (folder / "small.py").write_text(code.replace(", options=options", ""))
    refused = subprocess.run([sys.executable, "small.py"], cwd=folder, capture_output=True, text=True, timeout=120)
    assert "RESOURCE_EXHAUSTED" in refused.stderr


def stubs(folder):
    text = (ROOT / "README.md").read_text()
    words = re.search(r"`python (-m grpc_tools\.protoc .*?)`", text)[1].split()
    return [sys.executable, *(word.replace("_out=.", f"_out={folder}") for word in words)]


CURL = [block for block in blocks((ROOT / "README.md").read_text(), "sh") if "curl" in block]


@pytest.mark.parametrize("code", CURL)
def test_curl_runs_as_it_is_written(code, server, folder):
    run(["bash", "-euo", "pipefail", "-c", here(code, server).replace("curl -sS", "curl -sS --fail-with-body")], folder)
    pictures = [name for name in os.listdir(folder) if name.startswith("variant")]
    assert pictures
    for name in pictures:
        assert (folder / name).stat().st_size > 1000


def test_a_data_set_is_augmented_as_it_is_written(folder):
    [code] = [block for block in blocks((ROOT / "README.md").read_text(), "sh") if "restain augment" in block]
    (folder / "data/tiles").mkdir(parents=True)
    shutil.copy(folder / "a.png", folder / "data/tiles")
    (folder / "shards").mkdir()
    for number in range(16):
        with tarfile.open(folder / f"shards/train-{number:06}.tar", "w") as tar:
            tar.add(folder / "b.png", f"tile{number}.png")
    path = f"{PROGRAM.parent}:{os.environ['PATH']}"
    run(["bash", "-euo", "pipefail", "-c", code], folder, {**environment(), "PATH": path, "RESTAIN_MODELS": str(ROOT / "models"), "RESTAIN_AUGMENT_MODELS": str(ROOT / "models")})
    assert len(list((folder / "data/augmented").glob("*.png"))) == 4
    assert [tar.name for tar in (folder / "shards/out").glob("*.tar")] == ["train-000003.tar"]


def test_no_snippet_is_longer_than_ten_lines():
    for block in blocks((ROOT / "README.md").read_text(), "python"):
        assert len([line for line in block.splitlines() if line.strip()]) <= 10, block
