"""The Open Inference Protocol, by way of NVIDIA's own client as it is installed: over HTTP and gRPC, and the asyncio forms of both."""

import contextlib
import io
import json
import queue
import threading
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from PIL import Image
from served import SIDE, install, tiles, until
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

WIRES = {"http": triton_http, "grpc": triton_grpc}
AIO = {"http": triton_http_aio, "grpc": triton_grpc_aio}


def address(server, name):
    return server.http if name == "http" else server.grpc


class Wire:
    """A client of one transport, and its kinds of input and output."""

    def __init__(self, name, server):
        self.name, self.module = name, WIRES[name]
        more = {"concurrency": 8} if name == "http" else {}
        self.client = self.module.InferenceServerClient(address(server, name), **more)

    def json(self, message):
        """What was answered, as HTTP has it."""
        if self.name == "http":
            return message
        from google.protobuf import json_format

        return json_format.MessageToDict(message, preserving_proto_field_name=True)

    def infer(self, inputs, outputs=None, model="tiny", **more):
        wanted = None if outputs is None else [self.module.InferRequestedOutput(name) for name in outputs]
        return self.client.infer(model, inputs, outputs=wanted, **more)

    def tensor(self, name, array, datatype="UINT8", **more):
        return tensor(self.module, name, array, datatype, **more)


def tensor(module, name, array, datatype="UINT8", **more):
    given = module.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, **more)
    return given


@pytest.fixture(params=["http", "grpc"])
def wire(request, server):
    wire = Wire(request.param, server)
    yield wire
    wire.client.close()


def pngs(array):
    files = []
    for tile in array:
        file = io.BytesIO()
        Image.fromarray(tile).save(file, "PNG")
        files.append(file.getvalue())
    return np.array(files, dtype=np.object_)


def v1(server, array, **request):
    """The pixels of POST /v1/augment: what every other way is compared with."""
    header = {"tiles": {"dtype": "U8", "shape": list(array.shape), "data_offsets": [0, array.nbytes]}}
    header["__metadata__"] = {"request": json.dumps(request)}
    head = json.dumps(header).encode()
    body = len(head).to_bytes(8, "little") + head + array.tobytes()
    kind = "application/vnd.restain.safetensors"
    asked = urllib.request.Request(f"{server.url}/v1/augment", body, {"content-type": kind, "accept": kind})
    with urllib.request.urlopen(asked) as answer:
        answer = answer.read()
    length = int.from_bytes(answer[:8], "little")
    head = json.loads(answer[8 : 8 + length])
    pixels = np.frombuffer(answer[8 + length :], np.uint8).reshape(head["variants"]["shape"])
    return pixels, json.loads(head["__metadata__"]["provenance"])


@contextlib.contextmanager
def refused(wire, code, *said):
    """What is raised carries the sentence and, over both wires, the code."""
    with pytest.raises(InferenceServerException) as raised:
        yield
    http, grpc_code, name = code
    assert raised.value.status() == (str(http) if wire.name == "http" else f"StatusCode.{grpc_code}")
    assert wire.name == "grpc" or raised.value.message().startswith(f"{name}: ")
    for words in said:
        assert words in raised.value.message()


MALFORMED = (400, "INVALID_ARGUMENT", "malformed_request")
NOT_FOUND = (404, "NOT_FOUND", "model_not_found")


def test_the_server_and_its_model_are_ready(wire):
    client = wire.client
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("tiny") and client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "9") and not client.is_model_ready("huge")


def test_metadata_and_config_say_what_goes_in_and_out(wire):
    about = wire.json(wire.client.get_server_metadata())
    assert about["name"] == "restain"
    assert {"binary_tensor_data", "model_repository", "statistics"} <= set(about["extensions"])
    for version in ["", "1"]:
        model = wire.json(wire.client.get_model_metadata("tiny", version))
        assert (model["name"], model["versions"], model["platform"]) == ("tiny", ["1"], "restain")
        of_name = {each["name"]: (each["datatype"], [int(size) for size in each["shape"]]) for each in model["inputs"] + model["outputs"]}
        assert of_name["TILES"] == ("UINT8", [-1, -1, -1, 3])
        assert of_name["KEYS"] == ("UINT8", [-1, 32])
        assert of_name["VARIANTS"] == ("UINT8", [-1, -1, -1, -1, 3])
        assert of_name["STYLE_IDS"] == ("BYTES", [-1, -1])
        assert of_name["TILE_KEYS"] == ("UINT8", [-1, 32])
        assert of_name["FIDELITY"] == ("FP32", [-1])
    config = wire.json(wire.client.get_model_config("tiny"))
    config = config.get("config", config)
    assert (config["name"], config["platform"]) == ("tiny", "restain") and config["max_batch_size"] > 0
    assert config["input"][0]["data_type"] == "TYPE_UINT8"
    assert [int(size) for size in config["input"][0]["dims"]] == [-1, -1, 3]
    assert "2^53" in config["parameters"]["seed"]["string_value"]


def test_the_pixels_are_those_of_v1_augment(server, wire):
    array = tiles(3)
    pixels, provenance = v1(server, array, variants=4, seed=11)
    answer = wire.infer([wire.tensor("TILES", array)], parameters={"variants": 4, "seed": 11}, request_id="my own")
    assert np.array_equal(answer.as_numpy("VARIANTS"), pixels)
    ids = [each.decode() for each in answer.as_numpy("STYLE_IDS").ravel()]
    assert ids == [each["style"] for each in provenance]
    keys = [bytes(key).hex() for key in answer.as_numpy("TILE_KEYS")]
    assert keys == [each["tile_key"] for each in provenance[::4]]
    about = wire.json(answer.get_response())
    assert (about["model_name"], about["model_version"], about["id"]) == ("tiny", "1", "my own")
    said = about["parameters"]
    if wire.name == "grpc":
        said = {name: next(iter(value.values())) for name, value in said.items()}
    assert (int(said["seed"]), said["bundle"], said["method"]) == (11, provenance[0]["bundle"], "vit")


def test_a_seed_that_is_drawn_gives_the_same_again(wire):
    array = tiles(1, seed=5)
    answer = wire.infer([wire.tensor("TILES", array)])
    said = answer.get_response()["parameters"]["seed"] if wire.name == "http" else answer.get_response().parameters["seed"].int64_param
    again = wire.infer([wire.tensor("TILES", array)], parameters={"seed": said})
    assert np.array_equal(answer.as_numpy("VARIANTS"), again.as_numpy("VARIANTS"))


def test_parameters_are_those_of_the_request_json(server, wire):
    array = tiles(2, seed=1)
    _, provenance = v1(server, array, variants=8, seed=3)
    domains = sorted({each["domain"] for each in provenance})
    style = {"domains": domains[:1], "share": "request"}
    pixels, provenance = v1(server, array, variants=2, seed=3, strength=0.5, style=style)
    parameters = {"variants": 2, "seed": 3, "strength": 0.5, "domains": domains[0], "share": "request"}
    given = [wire.tensor("TILES", array)]
    answer = wire.infer(given, parameters=parameters, priority=2, timeout=60_000_000)
    assert np.array_equal(answer.as_numpy("VARIANTS"), pixels)

    ids = [each["style"] for each in provenance]
    answer = wire.infer(given, ["STYLE_IDS"], parameters={"style_ids": json.dumps(ids[:1]), "seed": 3})
    assert {each.decode() for each in answer.as_numpy("STYLE_IDS").ravel()} == set(ids[:1])
    answer = wire.infer(given, parameters={"method": "identity", "variants": 2})
    assert np.array_equal(answer.as_numpy("VARIANTS"), array[:, None].repeat(2, axis=1))
    assert set(answer.as_numpy("STYLE_IDS").ravel()) == {b""}


def test_pictures_are_tiles_too(server, wire):
    array = tiles(2, seed=2)
    pixels, _ = v1(server, array, seed=4)
    given = wire.tensor("TILES", pngs(array), "BYTES")
    assert np.array_equal(wire.infer([given], parameters={"seed": 4}).as_numpy("VARIANTS"), pixels)
    wide = np.concatenate([array, array], axis=2)
    given = wire.tensor("TILES", pngs(wide), "BYTES")
    answer = wire.infer([given], parameters={"seed": 4, "strength": 0})
    assert np.array_equal(answer.as_numpy("VARIANTS")[:, 0], wide), "of any size"
    assert answer.as_numpy("FIDELITY").shape == (2,) and (answer.as_numpy("FIDELITY") > 0).all()
    # Of several sizes, the variants are pictures too.
    given = wire.tensor("TILES", pngs([array[0], wide[0]]), "BYTES")
    answer = wire.infer([given], parameters={"strength": 0})
    made = [np.asarray(Image.open(io.BytesIO(file))) for file in answer.as_numpy("VARIANTS").ravel()]
    assert np.array_equal(made[0], array[0]) and np.array_equal(made[1], wide[0])


def test_references_give_their_style(server, wire):
    array, references = tiles(1, seed=3), tiles(2, seed=4)
    given = [wire.tensor("TILES", array), wire.tensor("REFERENCES", references)]
    answer = wire.infer(given, parameters={"from": "reference", "placement": "aligned", "seed": 1})
    assert answer.as_numpy("STYLE_IDS")[0, 0].decode().startswith("reference/")


def test_keys_stand_for_tiles_that_were_sent_before(wire):
    array = tiles(2, seed=6)
    first = wire.infer([wire.tensor("TILES", array)], parameters={"seed": 5})
    keys = first.as_numpy("TILE_KEYS").copy()
    again = wire.infer([wire.tensor("KEYS", keys)], parameters={"seed": 5})
    assert np.array_equal(first.as_numpy("VARIANTS"), again.as_numpy("VARIANTS"))
    hexed = np.array([bytes(key).hex().encode() for key in keys], dtype=np.object_)
    again = wire.infer([wire.tensor("KEYS", hexed, "BYTES")], parameters={"seed": 5})
    assert np.array_equal(first.as_numpy("VARIANTS"), again.as_numpy("VARIANTS"))
    keys[1] = 0
    with refused(wire, (404, "NOT_FOUND", "tile_not_held"), "1 of the keys", "key 1"):
        wire.infer([wire.tensor("KEYS", keys)])


def test_only_the_outputs_that_are_asked_for_are_given_in_their_order(wire):
    answer = wire.infer([wire.tensor("TILES", tiles(1))], ["TILE_KEYS", "VARIANTS"])
    about = wire.json(answer.get_response())
    assert [output["name"] for output in about["outputs"]] == ["TILE_KEYS", "VARIANTS"]
    assert answer.as_numpy("STYLE_IDS") is None
    assert answer.as_numpy("VARIANTS").shape == (1, 1, SIDE, SIDE, 3)


def test_tensors_can_be_json_over_http(server):
    wire = Wire("http", server)
    array = tiles(2, seed=7)
    pixels, provenance = v1(server, array, variants=2, seed=8)
    outputs = [triton_http.InferRequestedOutput(name, binary_data=False) for name in ["VARIANTS", "STYLE_IDS"]]
    given = wire.tensor("TILES", array, binary_data=False)
    answer = wire.client.infer("tiny", [given], outputs=outputs, parameters={"variants": 2, "seed": 8})
    assert "data" in answer.get_output("VARIANTS")
    assert np.array_equal(answer.as_numpy("VARIANTS"), pixels)
    assert list(answer.as_numpy("STYLE_IDS").ravel()) == [each["style"] for each in provenance]
    nested = {"inputs": [{"name": "TILES", "shape": list(array.shape), "datatype": "UINT8", "data": array.tolist()}]}
    nested["parameters"] = {"seed": 8, "variants": 2}
    asked = urllib.request.Request(f"{server.url}/v2/models/tiny/infer", json.dumps(nested).encode())
    with urllib.request.urlopen(asked) as answer:
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["server-timing"].startswith("queue;dur=")
        outputs = {output["name"]: output for output in json.load(answer)["outputs"]}
    assert np.array_equal(np.array(outputs["VARIANTS"]["data"], np.uint8), pixels.ravel())
    keys = [{"name": "KEYS", "shape": [1], "datatype": "BYTES", "data": [provenance[0]["tile_key"]]}]
    asked = urllib.request.Request(f"{server.url}/v2/models/tiny/infer", json.dumps({"inputs": keys}).encode())
    with urllib.request.urlopen(asked) as answer:
        assert answer.status == 200
    wire.client.close()


def test_elements_can_be_typed_over_grpc(server):
    array = tiles(1, seed=8)
    pixels, _ = v1(server, array, seed=9)
    with grpc.insecure_channel(server.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for datatype, shape in [("UINT8", array.shape), ("BYTES", [1])]:
            asked = service_pb2.ModelInferRequest(model_name="tiny")
            asked.parameters["seed"].int64_param = 9
            given = asked.inputs.add(name="TILES", datatype=datatype, shape=shape)
            given.contents.uint_contents.extend(array.ravel().tolist() if datatype == "UINT8" else [])
            given.contents.bytes_contents.extend(pngs(array) if datatype == "BYTES" else [])
            answer = stub.ModelInfer(asked)
            assert answer.raw_output_contents[0] == pixels.tobytes()


@pytest.mark.parametrize(
    ("given", "parameters", "code", "said"),
    [
        ({"TILES": ((1, SIDE, SIDE, 3), "UINT8")}, {"variants": 0}, (422, "INVALID_ARGUMENT", "variants_out_of_range"), "variants is 0"),
        ({"TILES": ((1, SIDE, SIDE, 3), "UINT8")}, {"domains": "mars"}, (422, "INVALID_ARGUMENT", "unknown_domain"), "mars"),
        ({"TILES": ((1, SIDE, SIDE, 3), "UINT8")}, {"variants": "two"}, MALFORMED, "variants is `two`"),
        ({"TILES": ((1, SIDE, SIDE, 3), "UINT8")}, {"seed": -1}, (422, "INVALID_ARGUMENT", "seed_out_of_range"), "seed is -1"),
        ({"TILES": ((1, SIDE, SIDE, 3), "UINT8")}, {"timeout_ms": 0}, (422, "INVALID_ARGUMENT", "timeout_out_of_range"), "timeout_ms"),
        ({"TILES": ((1, SIDE, SIDE, 3), "UINT8")}, {"strength": "one"}, MALFORMED, "strength is `one`"),
        ({"TILES": ((1, SIDE, 8, 3), "UINT8")}, {}, (422, "INVALID_ARGUMENT", "tile_size"), f"tile 0 is 8×{SIDE}"),
        ({"TILES": ((SIDE, SIDE, 3), "UINT8")}, {}, MALFORMED, "must be [n, height, width, 3]"),
        ({"TILES": ((1, SIDE, SIDE, 3), "FP32")}, {}, MALFORMED, "TILES is FP32"),
        ({"TILES": ((0, SIDE, SIDE, 3), "UINT8")}, {}, (422, "INVALID_ARGUMENT", "no_tiles"), "no tile"),
        ({"MASK": ((1,), "UINT8")}, {}, MALFORMED, "no input `MASK`"),
        ({}, {}, (422, "INVALID_ARGUMENT", "no_tiles"), "no tile"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(wire, given, parameters, code, said):
    types = {"UINT8": np.uint8, "FP32": np.float32}
    inputs = [wire.tensor(name, np.zeros(shape, types[datatype]), datatype) for name, (shape, datatype) in given.items()]
    with refused(wire, code, said):
        wire.infer(inputs, parameters=parameters)


def test_models_and_outputs_that_are_not_are_named(wire):
    given = [wire.tensor("TILES", tiles(1))]
    with refused(wire, NOT_FOUND, "`huge`", "tiny/1"):
        wire.infer(given, model="huge")
    with refused(wire, NOT_FOUND, "`tiny/9`"):
        wire.infer(given, model_version="9")
    for ask in [wire.client.get_model_metadata, wire.client.get_model_config, wire.client.get_inference_statistics]:
        with refused(wire, NOT_FOUND, "`huge`"):
            ask("huge")
    with refused(wire, MALFORMED, "unknown output `VARIANT`"):
        wire.infer(given, ["VARIANT"])
    with refused(wire, MALFORMED, "sequence_"):
        wire.infer(given, sequence_id=3, sequence_start=True)
    unreadable = np.array([b"no picture"], dtype=np.object_)
    with refused(wire, (422, "INVALID_ARGUMENT", "undecodable_image"), "tile 0"):
        wire.infer([wire.tensor("TILES", unreadable, "BYTES")])


def test_what_is_not_served_is_refused_by_name(wire):
    code = (404, "UNIMPLEMENTED", "route_not_found")
    with refused(wire, code, "shared" if wire.name == "http" else "SharedMemory"):
        wire.client.get_system_shared_memory_status()
    with refused(wire, code, "race"):
        wire.client.get_trace_settings()
    with refused(wire, code, "og"):
        wire.client.update_log_settings({"log_verbose_level": 1})
    given = wire.module.InferInput("TILES", [1, SIDE, SIDE, 3], "UINT8")
    given.set_shared_memory("region", SIDE * SIDE * 3)
    with refused(wire, MALFORMED, "TILES", "shared_memory"):
        wire.infer([given])


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [False, True])
def test_requests_may_be_compressed_over_http(server, algorithm, binary):
    client = triton_http.InferenceServerClient(server.http)
    array = tiles(2, seed=50)
    given = [tensor(triton_http, "TILES", array, binary_data=binary)]
    more = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
    answer = client.infer("tiny", given, parameters={"method": "identity"}, **more)
    assert np.array_equal(answer.as_numpy("VARIANTS")[:, 0], array)
    client.close()


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_requests_may_be_compressed_over_grpc(server, algorithm):
    client = triton_grpc.InferenceServerClient(server.grpc)
    array = tiles(2, seed=51)
    given = [tensor(triton_grpc, "TILES", array)]
    answer = client.infer("tiny", given, parameters={"method": "identity"}, compression_algorithm=algorithm)
    assert np.array_equal(answer.as_numpy("VARIANTS")[:, 0], array)
    got = queue.SimpleQueue()
    client.start_stream(lambda result, error: got.put((result, error)), compression_algorithm=algorithm)
    for seed in [52, 53]:
        client.async_stream_infer("tiny", [tensor(triton_grpc, "TILES", tiles(1, seed=seed))], parameters={"method": "identity"})
    for seed in [52, 53]:
        result, error = got.get(timeout=60)
        assert error is None and np.array_equal(result.as_numpy("VARIANTS")[0, 0], tiles(1, seed=seed)[0])
    client.stop_stream()
    client.close()


def test_a_body_that_lies_about_its_length_is_refused(server):
    for path, headers, status in [
        ("models/tiny/infer", {"Inference-Header-Content-Length": "3"}, 400),
        ("models/tiny/infer", {"Inference-Header-Content-Length": "-1"}, 400),
        ("models/tiny/infer", {"Inference-Header-Content-Length": "9" * 30}, 400),
        ("repository/models/../load", {}, 422),
        ("nothing", {}, 404),
        ("models/%FF/infer", {}, 400),
        ("health/live", {}, 405),
    ]:
        asked = urllib.request.Request(f"{server.url}/v2/{path}", b"{}", headers)
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(asked)
        with raised.value as answer:
            assert (answer.status, list(json.load(answer))) == (status, ["error"]), path


def test_a_deadline_that_passes_is_told(serve):
    # Nothing is encoded for so long.
    server = serve("--max-batch", "4", "--max-delay", "10m")
    client = triton_grpc.InferenceServerClient(server.grpc)
    given = [tensor(triton_grpc, "TILES", tiles(1))]
    # The server's own clock, by Triton's parameter. First: behind a tile that waits, so little time is refused at once.
    with pytest.raises(InferenceServerException, match="no answer within 1 ms") as raised:
        client.infer("tiny", given, timeout=1)
    assert raised.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    with pytest.raises(InferenceServerException) as raised:
        client.infer("tiny", given, client_timeout=1)
    assert raised.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    until(lambda: client.get_inference_statistics("tiny").model_stats[0].inference_stats.fail.count == 2)
    client.close()


def test_a_caller_who_has_gone_costs_no_encoding(serve):
    # Nothing is encoded for so long: there is no race to be cancelled in.
    server = serve("--max-batch", "4", "--max-delay", "10m")
    client = triton_grpc.InferenceServerClient(server.grpc)
    ended, told = threading.Event(), []

    def callback(result, error):
        told.append(error)
        ended.set()

    def statistics():
        return client.get_inference_statistics("tiny").model_stats[0]

    call = client.async_infer("tiny", [tensor(triton_grpc, "TILES", tiles(1))], callback)
    until(lambda: statistics().last_inference > 0)
    call.cancel()
    assert ended.wait(30) and told[0].status() == "StatusCode.CANCELLED"
    until(lambda: statistics().inference_stats.fail.count == 1)
    assert statistics().execution_count == 0
    client.close()


def test_statistics_move(wire):
    def figures():
        stats = wire.json(wire.client.get_inference_statistics("tiny", "1"))["model_stats"]
        assert [(each["name"], each["version"]) for each in stats] == [("tiny", "1")]
        inference = stats[0]["inference_stats"]
        count = {name: int(inference[name].get("count", 0)) for name in ["success", "fail", "compute_output"]}
        batches = sum(int(each["compute_infer"]["count"]) for each in stats[0].get("batch_stats", []))
        assert int(stats[0].get("execution_count", 0)) == batches
        return {**count, "tiles": int(stats[0].get("inference_count", 0)), "ns": int(inference["success"].get("ns", 0)), "batches": batches}

    before = figures()
    array = tiles(3, seed=30 if wire.name == "http" else 31)
    wire.infer([wire.tensor("TILES", array)])
    after = figures()
    assert (after["success"] - before["success"], after["tiles"] - before["tiles"]) == (1, 3)
    assert after["ns"] > before["ns"] and after["batches"] > before["batches"]
    # Held by now: no batch for it.
    wire.infer([wire.tensor("TILES", array)])
    again = figures()
    assert (again["batches"], again["success"] - after["success"]) == (after["batches"], 1)
    with pytest.raises(InferenceServerException):
        wire.infer([wire.tensor("TILES", array)], parameters={"domains": "mars"})
    assert figures()["fail"] == again["fail"] + 1
    everyone = wire.json(wire.client.get_inference_statistics())["model_stats"]
    assert [each["name"] for each in everyone] == ["tiny"]


@pytest.mark.parametrize("name", ["http", "grpc"])
def test_versions_are_loaded_and_unloaded(serve, name):
    server = serve()
    wire = Wire(name, server)
    install(server.models, version="2")
    install(server.models, name="other")

    def index():
        answer = wire.json(wire.client.get_model_repository_index())
        models = answer if name == "http" else answer["models"]
        return {f"{each['name']}/{each['version']}": each["state"] for each in models}

    assert index() == {"tiny/1": "READY", "tiny/2": "UNAVAILABLE", "other/1": "UNAVAILABLE"}
    wire.client.load_model("tiny")
    assert index()["tiny/2"] == "READY" and wire.client.is_model_ready("tiny", "2")
    given = [wire.tensor("TILES", tiles(1))]
    assert wire.infer(given).get_response(**({"as_json": True} if name == "grpc" else {}))["model_version"] == "2"
    old = wire.infer(given, model_version="1").get_response(**({"as_json": True} if name == "grpc" else {}))
    assert old["model_version"] == "1"
    wire.client.unload_model("tiny/2")
    assert index()["tiny/2"] == "UNAVAILABLE" and wire.client.is_model_ready("tiny", "1")
    wire.client.load_model("tiny/2")
    wire.client.load_model("other")
    assert index() == {"tiny/1": "READY", "tiny/2": "READY", "other/1": "READY"}
    with refused(wire, (409, "FAILED_PRECONDITION", "model_is_default"), "tiny/2"):
        wire.client.unload_model("tiny")
    wire.client.unload_model("other")
    assert not wire.client.is_model_ready("other")
    with refused(wire, NOT_FOUND, "huge"):
        wire.client.load_model("huge")
    with refused(wire, MALFORMED, "config"):
        wire.client.load_model("tiny", config="{}")
    wire.client.close()


def test_many_at_once_get_their_own(server, wire):
    arrays = [tiles(1 + n % 3, seed=100 + n) for n in range(24)]
    expected = [v1(server, array, seed=n, variants=2)[0] for n, array in enumerate(arrays)]
    got, done = {}, threading.Semaphore(0)

    def asked(n):
        given = [wire.tensor("TILES", arrays[n])]
        more = {"parameters": {"seed": n, "variants": 2}}
        if wire.name == "http":
            return wire.client.async_infer("tiny", given, **more)

        def callback(result, error):
            got[n] = error or result
            done.release()

        return wire.client.async_infer("tiny", given, callback, **more)

    calls = [asked(n) for n in range(24)]
    for n, call in enumerate(calls):
        if wire.name == "http":
            got[n] = call.get_result()
        else:
            assert done.acquire(timeout=60)
    for n, pixels in enumerate(expected):
        assert np.array_equal(got[n].as_numpy("VARIANTS"), pixels), n


def test_a_stream_answers_in_order_and_outlives_what_fails(server):
    client = triton_grpc.InferenceServerClient(server.grpc)
    answers, done = [], threading.Semaphore(0)

    def callback(result, error):
        answers.append((result, error))
        done.release()

    client.start_stream(callback)
    arrays = [tiles(1 + n % 4, seed=200 + n) for n in range(20)]
    for n, array in enumerate(arrays):
        parameters = {"domains": "mars"} if n == 7 else {"seed": n}
        given = [tensor(triton_grpc, "TILES", array)]
        client.async_stream_infer("tiny", given, request_id=str(n), parameters=parameters, enable_empty_final_response=n == 0)
    for _ in arrays:
        assert done.acquire(timeout=60)
    client.stop_stream()
    client.close()
    for n, (result, error) in enumerate(answers):
        if n == 7:
            assert error.message().startswith("unknown_domain: ") and "mars" in error.message()
            continue
        assert error is None and result.get_response().id == str(n)
        assert result.get_response().parameters["triton_final_response"].bool_param
        assert np.array_equal(result.as_numpy("VARIANTS"), v1(server, arrays[n], seed=n)[0])


@pytest.mark.parametrize("name", ["http", "grpc"])
async def test_the_asyncio_clients_are_served(server, name):
    module = AIO[name]
    async with module.InferenceServerClient(address(server, name)) as client:
        assert await client.is_server_live() and await client.is_server_ready() and await client.is_model_ready("tiny")
        array = tiles(2, seed=40)
        given = [tensor(module, "TILES", array)]
        answer = await client.infer("tiny", given, parameters={"seed": 2, "variants": 3})
        assert np.array_equal(answer.as_numpy("VARIANTS"), v1(server, array, seed=2, variants=3)[0])
        with pytest.raises(InferenceServerException, match="huge"):
            await client.infer("huge", given)
        assert (await client.get_model_repository_index()) is not None
        if name == "grpc":

            async def asked():
                for n in range(4):
                    yield {"model_name": "tiny", "inputs": given, "request_id": str(n), "parameters": {"seed": n}}

            ids = [(answer.get_response().id, error) async for answer, error in client.stream_infer(asked())]
            assert ids == [(str(n), None) for n in range(4)]


def test_the_service_is_among_those_that_health_and_reflection_know(server):
    with grpc.insecure_channel(server.grpc) as channel:
        # grpc.health.v1 by hand: one string in, one enum out.
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        name = b"inference.GRPCInferenceService"
        assert check(b"\x0a" + bytes([len(name)]) + name) == b"\x08\x01"
