"""The Open Inference Protocol, by way of KServe's own SDK as it is installed: its REST client and its gRPC client, JSON and binary tensors.

MLServer's client library is not installed here; what it writes beyond the protocol, `content_type`, is sent by hand.
"""

import asyncio
import gzip
import json
import urllib.request

import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from served import SIDE, tiles


def asked(array, binary, datatype="UINT8", **parameters):
    """One request, as the SDK's user makes it."""
    given = InferInput("TILES", list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=binary)
    outputs = [RequestedOutput(name, {"binary_data": binary}) for name in ["VARIANTS", "STYLE_IDS", "FIDELITY"]]
    return InferRequest(model_name="tiny", infer_inputs=[given], request_outputs=outputs, parameters=parameters)


def call(server, wire, request):
    async def rest():
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        try:
            return await client.infer(server.url, request, model_name="tiny")
        finally:
            await client.close()

    async def grpc():
        async with InferenceGRPCClient(server.grpc) as client:
            return await client.infer(request)

    return asyncio.run(rest() if wire == "rest" else grpc())


@pytest.mark.parametrize(("wire", "binary"), [("rest", False), ("rest", True), ("grpc", True)])
def test_infer_returns_variants(server, wire, binary):
    array = tiles(2, seed=40)
    answer = call(server, wire, asked(array, binary, variants=3, seed=7, method="identity"))
    outputs = {output.name: output.as_numpy() for output in answer.outputs}
    assert np.array_equal(outputs["VARIANTS"].reshape(2, 3, SIDE, SIDE, 3), array[:, None].repeat(3, axis=1))
    assert outputs["STYLE_IDS"].size == 6 and outputs["FIDELITY"].shape == (2,)
    assert answer.model_name == "tiny" and int(str(answer.parameters["seed"]).split(":")[-1]) == 7


@pytest.mark.parametrize("wire", ["rest", "grpc"])
def test_the_variants_are_those_of_the_other_wire(server, wire):
    array = tiles(1, seed=41)
    made = call(server, wire, asked(array, True, variants=2, seed=3)).outputs[0].as_numpy()
    other = call(server, "rest", asked(array, False, variants=2, seed=3)).outputs[0].as_numpy()
    assert np.array_equal(made.ravel(), other.ravel()) and not np.array_equal(made.ravel()[: array.size], array.ravel())


def test_the_server_and_its_model_are_ready(server):
    async def rest():
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        ready = await client.is_server_ready(server.url), await client.is_server_live(server.url), await client.is_model_ready(server.url, "tiny")
        await client.close()
        return ready

    async def grpc():
        async with InferenceGRPCClient(server.grpc) as client:
            return await client.is_server_ready(), await client.is_server_live(), await client.is_model_ready("tiny")

    assert asyncio.run(rest()) == asyncio.run(grpc()) == (True, True, True)


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


def test_a_compressed_request_is_read(server):
    array = tiles(1, seed=43)
    for binary in [False, True]:
        body, length = asked(array, binary, method="identity").to_rest()
        headers = {"content-encoding": "gzip", "content-type": "application/octet-stream" if length else "application/json"}
        if length:
            headers["inference-header-content-length"] = str(length)
        body = body if length else json.dumps(body).encode()
        request = urllib.request.Request(f"{server.url}/v2/models/tiny/infer", gzip.compress(body), headers)
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200 and array.tobytes() in answer.read() if binary else True
