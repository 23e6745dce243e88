"""The Open Inference Protocol, by way of KServe's own SDK as it is installed: its REST client and its gRPC client, JSON and binary tensors.

MLServer's client library is not installed here; what it writes beyond the protocol, `content_type`, is sent by hand.
"""

import gzip
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from served import SIDE, tiles

CALLS = ["rest-json", "rest-binary", "grpc"]


@pytest.fixture(scope="module")
def called(server, tmp_path_factory):
    """The folder with what the SDK was answered, and whether everything was ready to it."""
    folder = tmp_path_factory.mktemp("kserve")
    np.save(folder / "tiles.npy", tiles(2, seed=40))
    program = Path(__file__).with_name("kserve_calls.py")
    ran = subprocess.run([sys.executable, program, server.url, server.grpc, folder], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-4000:]
    return folder, json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CALLS)
def test_infer_returns_variants(called, name):
    folder, _ = called
    array = np.load(folder / "tiles.npy")
    outputs = np.load(folder / f"{name}-identity.npz", allow_pickle=True)
    assert np.array_equal(outputs["VARIANTS"].reshape(2, 3, SIDE, SIDE, 3), array[:, None].repeat(3, axis=1))
    assert outputs["STYLE_IDS"].size == 6 and outputs["FIDELITY"].shape == (2,)
    variants, others = (np.load(folder / f"{each}-vit.npz", allow_pickle=True)["VARIANTS"].ravel() for each in [name, CALLS[0]])
    assert np.array_equal(variants, others) and not np.array_equal(variants, outputs["VARIANTS"].ravel())


def test_the_server_and_its_model_are_ready(called):
    _, ready = called
    assert ready == [True] * 6


def test_what_other_servers_read_is_ignored_and_logged_once(serve):
    server = serve("--log", "debug")
    array = tiles(1, seed=42)
    tensor = {"name": "TILES", "shape": [1.0, SIDE, SIDE, 3], "datatype": "UINT8", "data": array.astype(float).tolist()}
    tensor["parameters"] = {"content_type": "np", "headers": None}
    body = {"id": None, "model_name": "other", "inputs": [tensor], "outputs": None, "of_later": {"x": [1]}}
    body["parameters"] = {"content_type": "np", "variants": 2.0, "seed": None, "method": "identity"}
    request = urllib.request.Request(f"{server.url}/v2/models/tiny/infer", json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        outputs = {output["name"]: output for output in json.load(answer)["outputs"]}
    assert outputs["VARIANTS"]["shape"] == [1, 2, SIDE, SIDE, 3]
    assert outputs["VARIANTS"]["data"][: array.size] == array.ravel().tolist()
    lines = [line for line in (server.folder / "log").read_text().splitlines() if "are ignored" in line]
    assert len(lines) == 1
    for name in ["model_name", "of_later", "TILES.parameters.content_type", "TILES.parameters.headers", "parameters.content_type"]:
        assert name in lines[0]


def test_a_compressed_request_is_read(server, called):
    folder, _ = called
    array = np.load(folder / "tiles.npy")
    for binary in [False, True]:
        length = (folder / f"length-{binary}").read_text()
        headers = {"content-encoding": "gzip", "content-type": "application/octet-stream" if length else "application/json"}
        headers.update({"inference-header-content-length": length} if length else {})
        body = gzip.compress((folder / f"body-{binary}").read_bytes())
        with urllib.request.urlopen(urllib.request.Request(f"{server.url}/v2/models/tiny/infer", body, headers)) as answer:
            answer = answer.read()
        if binary:
            assert array.tobytes() in answer
        else:
            assert json.loads(answer)["outputs"][0]["data"] == array.ravel().tolist()
