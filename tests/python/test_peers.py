"""benches/peers.py, as far as a test can: the same ONNX Runtime for all, programs that are there, and requests as they are sent."""

import importlib.util
import json
import re
import struct
import subprocess
import sys
from email.parser import BytesParser
from types import SimpleNamespace

import numpy as np
import pytest
from served import ROOT

PEERS = ROOT / "benches/peers"
PINS = dict(line.split("==") for line in (PEERS / "requirements.txt").read_text().splitlines() if "==" in line)


@pytest.fixture
def peers(monkeypatch):
    """The benchmark as a module, without ONNX Runtime's package, which only its own environment has."""
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace())
    spec = importlib.util.spec_from_file_location("peers_program", ROOT / "benches/peers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_run_the_onnx_runtime_of_the_server():
    fetched = re.search(r'"onnxruntime==([\d.]+)"', (ROOT / "tools/fetch.py").read_text()).group(1)
    assert PINS["onnxruntime"] == fetched


def test_make_installs_the_pins_and_runs_the_benchmark():
    recipe = subprocess.run(["make", "-n", "bench-peers", "ORT_DYLIB_PATH=own"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "-r benches/peers/requirements.txt" in recipe
    assert "benches/peers.py --restain target/release/restain" in recipe


@pytest.mark.parametrize("name", ["litserve", "mosec", "bentoml"])
def test_every_peer_has_a_pin_and_a_program(peers, name):
    assert name in PINS
    assert name in peers.PATHS
    compile((PEERS / f"{name}_app.py").read_text(), name, "exec")


def test_bodies_hold_the_tiles_in_the_form_of_each_server(peers):
    tiles = peers.random_tiles(8, 2)
    for name in ("mosec", "bentoml"):
        assert peers.body(SimpleNamespace(name=name), tiles)[1] == tiles.tobytes()
    headers, body = peers.body(SimpleNamespace(name="litserve"), tiles)
    form = BytesParser().parsebytes(f"content-type: {headers['content-type']}\r\n\r\n".encode() + body)
    [part] = form.get_payload()
    assert part.get_param("name", header="content-disposition") == "tiles"
    _, body = peers.body(SimpleNamespace(name="restain"), tiles)
    (length,) = struct.unpack("<Q", body[:8])
    assert json.loads(body[8 : 8 + length])["tiles"]["shape"] == [2, 8, 8, 3]
    assert body[8 + length :] == tiles.tobytes()


def test_answers_are_read_as_anatomy_and_characteristics(peers):
    anatomy, own = np.arange(24, dtype=np.float16).reshape(2, 2, 3, 2)
    plain = np.concatenate([anatomy, own], axis=2).tobytes()
    read = peers.halves(SimpleNamespace(name="mosec"), plain, anatomy.shape)
    assert np.array_equal(read[0], anatomy)
    assert np.array_equal(read[1], own)
    ends = {"anatomy": [0, anatomy.nbytes], "characteristics": [anatomy.nbytes, 2 * anatomy.nbytes]}
    head = json.dumps({name: {"data_offsets": offsets} for name, offsets in ends.items()}).encode()
    packed = struct.pack("<Q", len(head)) + head + anatomy.tobytes() + own.tobytes()
    read = peers.halves(SimpleNamespace(name="restain"), packed, anatomy.shape)
    assert np.array_equal(read[0], anatomy)
    assert np.array_equal(read[1], own)


def test_load_counts_tiles_latencies_and_failures_of_a_real_server(peers, server):
    load = peers.Load(SimpleNamespace(name="restain", url=f"{server.url}/v1/encode", side=32), callers=4, tiles=2)
    assert load.closed(0.5) > 0
    latencies = load.open(20, 0.5)
    assert latencies
    assert not load.failed
    refused = peers.Load(SimpleNamespace(name="restain", url=f"{server.url}/v1/nothing", side=32), callers=1, tiles=1)
    refused.open(20, 0.2)
    assert refused.failed
    with pytest.raises(SystemExit, match="no request of 1 tiles succeeded"):
        refused.closed(0.2)
