"""Compressed requests: gzip and deflate are read on every route that takes a body, within the bounds of plain ones; others are refused."""

import gzip
import io
import json
import zlib

import grpc
import numpy as np
import pytest
import requests
from PIL import Image
from safetensors.numpy import load, save
from served import SIDE, tiles, until
from tritonclient.grpc import service_pb2, service_pb2_grpc

SAFETENSORS = "application/vnd.restain.safetensors"
MIB = 1 << 20
PACK = {"gzip": gzip.compress, "deflate": zlib.compress}


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def form(**parts):
    prepared = requests.Request("POST", "http://x", files={name: (None, value) for name, value in parts.items()}).prepare()
    return prepared.body, prepared.headers["content-type"]


def bodies():
    """A body of every route that takes one: its path, its content type, and the status of the answer."""
    array = tiles(2, seed=60)
    infer = {"inputs": [{"name": "TILES", "shape": list(array.shape), "datatype": "UINT8", "data": array.ravel().tolist()}]}
    augment, kind = form(tile=png(array[0]), request=json.dumps({"variants": 2}))
    domain, domain_kind = form(domain="compressed", tile=png(array[0]), styles="0")
    tensor = save({"tiles": array})
    return [
        ("/v1/augment", "image/png", png(array[0]), 200),
        ("/v1/augment", kind, augment, 200),
        ("/v1/augment", SAFETENSORS, tensor, 200),
        ("/v1/augment", "application/json", b'{"tiles": []}', 422),
        ("/v1/encode", SAFETENSORS, tensor, 200),
        ("/v1/styles", domain_kind, domain, 422),
        ("/v1/models/tiny/load", "application/json", b'{"version": "1"}', 200),
        ("/v1/models/tiny/unload", "application/json", b'{"version": "9"}', 404),
        ("/v2/models/tiny/infer", "application/json", json.dumps(infer).encode(), 200),
        ("/v2/repository/index", "application/json", b'{"ready": true}', 200),
        ("/v2/repository/models/tiny/load", "application/json", b"{}", 200),
        ("/v2/repository/models/other/unload", "application/json", b"{}", 404),
    ]


def post(server, path, kind, body, **headers):
    return requests.post(server.url + path, data=body, headers={"content-type": kind, **headers}, timeout=60)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_every_route_reads_a_compressed_body(server, encoding):
    for path, kind, body, status in bodies():
        plain = post(server, path, kind, body)
        packed = post(server, path, kind, PACK[encoding](body), **{"content-encoding": encoding})
        assert (plain.status_code, packed.status_code) == (status, status), (path, plain.text, packed.text)
        if status != 200:
            assert packed.text == plain.text


def test_the_variants_are_those_of_the_plain_body(server):
    body = save({"tiles": tiles(3, seed=61)}, metadata={"request": json.dumps({"seed": 4, "variants": 2})})
    headers = {"accept": SAFETENSORS}
    plain = load(post(server, "/v1/augment", SAFETENSORS, body, **headers).content)["variants"]
    two_members = gzip.compress(body[:1000]) + gzip.compress(body[1000:])
    packed = load(post(server, "/v1/augment", SAFETENSORS, two_members, **headers, **{"content-encoding": "gzip"}).content)["variants"]
    assert np.array_equal(plain, packed)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x"])
def test_every_route_refuses_other_encodings_alike(server, encoding):
    for path, kind, body, _ in bodies():
        answer = post(server, path, kind, body, **{"content-encoding": encoding})
        assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "gzip, deflate"), (path, answer.text)
        said = answer.json()
        assert f"`{encoding}`" in (said["error"] if path.startswith("/v2") else said["detail"])
        assert path.startswith("/v2") or said["code"] == "unsupported_encoding"


def test_damage_is_named(server):
    whole = gzip.compress(png(tiles(1)[0]))
    for body, said in [(whole[:-9], "ends early"), (whole[:-1] + bytes([whole[-1] ^ 1]), "damaged"), (b"no gzip of any kind", "damaged")]:
        answer = post(server, "/v1/augment", "image/png", body, **{"content-encoding": "gzip"})
        assert answer.status_code == 400 and said in answer.json()["detail"], answer.text
        assert answer.json()["detail"].startswith("the gzip of the body")


def resident(server, field):
    """Mebibytes, as the operating system counts them."""
    with open(f"/proc/{server.process.pid}/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def inflight(server):
    lines = requests.get(f"{server.url}/metrics", timeout=60).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("restain_inflight_bytes "))


@pytest.fixture
def bombed(serve):
    """A server that has served, and refuses bodies over 8 MiB."""
    server = serve("--max-body", "8MiB")
    post(server, "/v1/augment", "image/png", png(tiles(1)[0]))
    before = resident(server, "VmRSS")
    yield server
    # Half a GiB in each: three times what a body may be is granted for it at most.
    assert resident(server, "VmHWM") < before + 3 * 8 + 64
    until(lambda: inflight(server) == 0)
    assert post(server, "/v1/augment", "image/png", png(tiles(1)[0])).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_refused_at_the_limit_of_a_body(bombed, encoding):
    bomb = PACK[encoding](bytes(512 * MIB))
    for path, kind, _, _ in bodies():
        answer = post(bombed, path, kind, bomb, **{"content-encoding": encoding})
        assert answer.status_code == 413, (path, answer.text)
    endless = gzip.compress(b"") * (9 * MIB // 20)
    assert post(bombed, "/v1/augment", "image/png", endless, **{"content-encoding": "gzip"}).status_code == 413


def test_a_bomb_is_refused_over_grpc(bombed):
    asked = service_pb2.ModelInferRequest(model_name="tiny")
    asked.inputs.add(name="TILES", datatype="UINT8", shape=[1, 16384, 8192, 3])
    asked.raw_input_contents.append(bytes(384 * MIB))
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(bombed.grpc, options=options, compression=grpc.Compression.Gzip) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(asked)
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "once it is decompressed" in raised.value.details()


def test_a_call_may_be_compressed(server):
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", request_serializer=bytes, response_deserializer=bytes)
        for name, compression in [("gzip", grpc.Compression.Gzip), ("deflate", grpc.Compression.Deflate)]:
            asked = service_pb2.ModelInferRequest(model_name="tiny")
            asked.inputs.add(name="TILES", datatype="UINT8", shape=[1, SIDE, SIDE, 3])
            asked.raw_input_contents.append(tiles(1, seed=62).tobytes())
            answer = service_pb2.ModelInferResponse.FromString(call(asked.SerializeToString(), compression=compression))
            assert answer.outputs[0].name == "VARIANTS", name
