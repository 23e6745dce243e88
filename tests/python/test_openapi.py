"""The description of the API against the server that gives it: it is valid, its examples work as they stand, and its errors come as it
describes them, each code of each operation."""

import json
import re
import subprocess
from base64 import b64encode
from io import BytesIO
from urllib.parse import urljoin

import numpy as np
import pytest
import requests
from described import check, named, operations, resolve, validate
from openapi_spec_validator import OpenAPIV31SpecValidator
from PIL import Image
from safetensors.numpy import save
from served import PROGRAM, ROOT, SIDE, Served, install, tiles

SAFETENSORS = "application/vnd.restain.safetensors"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A server whose model is called `demo`, as the examples have it."""
    folder = tmp_path_factory.mktemp("demo")
    install(folder / "models", "demo")
    server = Served(folder, models=folder / "models")
    yield server
    server.kill()


@pytest.fixture(scope="module")
def api(demo):
    return requests.get(f"{demo.url}/openapi.json", timeout=60).json()


def test_it_is_openapi_3_1(api):
    assert api["openapi"].startswith("3.1.")
    assert [str(error) for error in OpenAPIV31SpecValidator(api).iter_errors()] == []


def test_every_example_is_of_its_schema(api):
    seen = 0
    for _, _, operation in operations(api):
        bodies_of = [operation["requestBody"]] if "requestBody" in operation else []
        for body in bodies_of + [resolve(api, response) for response in operation["responses"].values()]:
            for content in body.get("content", {}).values():
                for example in content.get("examples", {}).values():
                    if "value" in example:
                        validate(api, content["schema"], example["value"])
                        seen += 1
    assert seen > 100


def test_every_operation_has_examples_and_says_what_it_takes(api):
    for method, path, operation in operations(api):
        assert operation["summary"] and operation["tags"] and operation["operationId"]
        success = [response for status, response in operation["responses"].items() if status < "300"]
        assert len(success) == 1, f"{method} {path}"
        for media_type, content in success[0].get("content", {}).items():
            if media_type in ("application/json", "text/plain"):
                assert content["examples"], f"{method} {path} {media_type}"
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            assert content["examples"], f"{method} {path} {media_type}"
        for problem in (response for status, response in operation["responses"].items() if status >= "400"):
            assert resolve(api, problem)["content"]["application/problem+json"]["examples"]


def example_files():
    """The files that examples name, from the tile that lies beside them."""
    tile = np.asarray(Image.open(ROOT / "docs/tile.png").convert("RGB"))[::6, ::6]
    two = np.stack([tile, tile[:, ::-1]])
    asked = {
        "tiles": {},
        "references": {"domain": "ours", "styles": 2},
    }
    return {f"docs/{name}.safetensors": save({"tiles": two}, metadata={"request": json.dumps(request)}) for name, request in asked.items()}


def test_the_files_that_examples_name_lie_in_the_repository_and_on_the_server(api, demo):
    for name, expected in example_files().items():
        assert (ROOT / name).read_bytes() == expected, f"write it again: example_files()[{name!r}]"
    text = json.dumps(api)
    for name in sorted(set(re.findall(r'"(docs/[\w.]+)"', text))):
        response = requests.get(urljoin(f"{demo.url}/openapi.json", name), timeout=60)
        assert response.status_code == 200 and response.content == (ROOT / name).read_bytes(), name
    assert "docs/tile.png" in text


def request_of(media_type, content, example):
    """An example as arguments of `requests.request`."""
    if "externalValue" in example:
        kind = "image/png" if media_type == "image/*" else media_type
        return {"data": (ROOT / example["externalValue"]).read_bytes(), "headers": {"content-type": kind}}
    if media_type != "multipart/form-data":
        return {"json": example["value"]}
    parts = []
    for name, values in example["value"].items():
        for value in values if isinstance(values, list) else [values]:
            kind = content.get("encoding", {}).get(name, {}).get("contentType", "text/plain").split(",")[0]
            if name in ("tile", "reference"):
                parts.append((name, ("tile", (ROOT / value).read_bytes(), kind)))
            else:
                text = value if isinstance(value, str) else json.dumps(value)
                parts.append((name, (None, text, kind)))
    return {"files": parts}


# What comes before what: a model is loaded before it is used and unloaded after, and a domain is removed once it was added.
ORDER = "live ready metrics list_models get_model load_model augment encode list_styles add_styles list_slides add_slide unload_model".split()


def test_every_example_of_a_request_is_answered_as_described(api, demo):
    known = named(api)
    assert set(known) == {*ORDER, "remove_styles", "remove_slide"}

    def send(operation_id, slide="none", **arguments):
        method, path, operation = known[operation_id]
        response = requests.request(method, demo.url + path.format(name="demo", domain="ours", slide=slide), timeout=60, **arguments)
        check(api, operation, response)
        return response

    for operation_id in ORDER:
        _, _, operation = known[operation_id]
        contents = operation.get("requestBody", {}).get("content", {})
        if not contents:
            assert send(operation_id).status_code == 200
        examples = [(media_type, content, example) for media_type, content in contents.items() for example in content["examples"].values()]
        accepts = list(operation["responses"].get("200", {}).get("content", {})) if operation_id == "augment" else ["*/*"]
        for media_type, content, example in examples:
            for accept in accepts:
                arguments = request_of(media_type, content, example)
                response = send(operation_id, **merged(arguments, accept))
                if response.status_code == 406:
                    assert accept.startswith("image/"), "several pictures are not one; everything else can be given"
                else:
                    assert response.status_code in (200, 201), f"{operation_id} {example}: {response.text[:500]}"
                if operation_id == "add_styles":
                    assert send(operation_id, **request_of(media_type, content, example)).json()["code"] == "domain_exists"
                    assert send("remove_styles").status_code == 204
                if operation_id == "add_slide":
                    assert send("remove_slide", response.json()["slide"]).status_code == 204


def merged(arguments, accept):
    return {**arguments, "headers": {**arguments.get("headers", {}), "accept": accept}}


def png(side, seed=0, white=False):
    file = BytesIO()
    Image.fromarray(np.full((side, side, 3), 255, np.uint8) if white else tiles(1, side, seed)[0]).save(file, "PNG")
    return file.getvalue()


def sent(*pictures, keys=(), references=(), **request):
    """A JSON body."""
    text = [b64encode(picture).decode() for picture in pictures]
    return {"json": {"tiles": text, "keys": list(keys), "references": list(references), "request": request}}


def form(*pictures, **fields):
    return {"files": [*((name, (None, str(value))) for name, value in fields.items()), *(("tile", ("tile", picture)) for picture in pictures)]}


TILE, OTHER = png(SIDE), png(SIDE, seed=1)
OF_TILES = {
    "malformed_request": {"json": {"tiles": 1}},
    "model_not_found": sent(TILE, model="none"),
    "body_too_large": {"data": bytes(300_000), "headers": {"content-type": "image/png"}},
    "image_too_large": sent(png(200, white=True)),
    "too_many_tiles": sent(*[TILE] * 9),
    "unsupported_media_type": {"data": b"tile", "headers": {"content-type": "text/plain"}},
    "unsupported_encoding": {"data": b"tile", "headers": {"content-type": "image/png", "content-encoding": "br"}},
    "no_tiles": sent(),
    "undecodable_image": sent(b"tile"),
    "tile_size": sent(png(8)),
    "tile_not_held": sent(keys=["0" * 64]),
    "timeout_out_of_range": sent(TILE, timeout_ms=0),
    "mpp_out_of_range": sent(TILE, mpp=1000),
}
OF_MODELS = {
    "malformed_request": {"json": {"versions": 1}},
    "route_not_found": {"name": "a/b"},
    "body_too_large": {"data": bytes(20_000)},
    "unsupported_encoding": {"data": b"{}", "headers": {"content-encoding": "br"}},
    "model_name": {"name": ".tiny"},
    "model_not_found": {"name": "none"},
}
# What provokes each code of each operation: arguments of `requests.request`, and of the path.
PROVOKED = {
    "augment": {
        **OF_TILES,
        "not_acceptable": {**sent(TILE), "headers": {"accept": "text/html"}},
        "request_too_large": sent(png(96), variants=64),
        "pixels_needed": sent(keys=["0" * 64], method="color-match"),
        "variants_out_of_range": sent(TILE, variants=0),
        "spread_out_of_range": sent(TILE, style={"spread": 3.5}),
        "strength_out_of_range": sent(TILE, strength=1.5),
        "seed_out_of_range": sent(TILE, seed=2**53),
        "quality_out_of_range": sent(TILE, output={"quality": 101}),
        "unknown_domain": sent(TILE, style={"domains": ["nowhere"]}),
        "unknown_style": sent(TILE, style={"ids": ["north/99"]}),
        "domain_forbidden": sent(TILE, style={"domains": ["south"]}),
        "blend_out_of_range": sent(TILE, style={"blend": [{"domain": "north", "weight": 0}]}),
        "no_styles": sent(TILE, style={"domains": ["north"], "exclude_domains": ["north"]}),
        "style_conflict": sent(TILE, style={"from": "own", "domains": ["north"]}),
        "unknown_slide": sent(TILE, slide="none"),
        "slide_count": sent(TILE, slide=["none", "none"]),
    },
    "encode": {**OF_TILES, "malformed_request": sent(TILE, variants=2)},
    "list_styles": {
        "malformed_request": {"params": {"models": "tiny"}},
        "model_not_found": {"params": {"model": "none"}},
        "not_acceptable": {"headers": {"accept": "image/png"}},
    },
    "add_styles": {
        "malformed_request": {"files": [("domain", (None, "ours")), ("domain", (None, "theirs"))]},
        "model_not_found": form(TILE, domain="ours", model="none"),
        "domain_exists": form(TILE, domain="north"),
        "domain_forbidden": form(TILE, domain="south"),
        "domain_name": form(TILE, domain=".ours"),
        "styles_out_of_range": form(TILE, domain="ours", styles=0),
        "no_styles": form(png(SIDE, white=True), domain="ours"),
        "no_tiles": form(domain="ours"),
        "undecodable_image": form(b"tile", domain="ours"),
        "tile_size": form(png(8), domain="ours"),
        "image_too_large": form(png(200, white=True), domain="ours"),
        "too_many_tiles": form(*[TILE] * 9, domain="ours"),
        "body_too_large": form(bytes(300_000), domain="ours"),
        "unsupported_media_type": {"json": {}},
        "unsupported_encoding": {**form(TILE, domain="ours"), "headers": {"content-encoding": "br"}},
    },
    "remove_styles": {
        "malformed_request": {"domain": "%FF"},
        "route_not_found": {"domain": "a/b"},
        "model_not_found": {"domain": "ours", "params": {"model": "none"}},
        "domain_not_found": {"domain": "ours"},
        "domain_of_bundle": {"domain": "north"},
    },
    "list_slides": {"malformed_request": {"params": {"models": "tiny"}}, "model_not_found": {"params": {"model": "none"}}},
    "add_slide": {**OF_TILES, "malformed_request": sent(TILE, variants=2), "no_styles": sent(png(SIDE, white=True))},
    "remove_slide": {
        "malformed_request": {"slide": "%FF"},
        "route_not_found": {"slide": "a/b"},
        "model_not_found": {"params": {"model": "none"}},
        "slide_not_found": {"slide": "none"},
    },
    "list_models": {},
    "get_model": {"malformed_request": {"name": "%FF"}, "route_not_found": {"name": "a/b"}, "model_not_found": {"name": "none"}},
    "load_model": {**OF_MODELS, "bundle_refused": {"name": "broken"}},
    "unload_model": {**OF_MODELS, "model_is_default": {"name": "tiny"}},
    "live": {},
    "ready": {},
    "metrics": {},
}
# What needs a server that starts, ends, fails or is full; other tests see these.
OF_THE_DOOR = {"unauthenticated", "forbidden", "rate_limited", "origin_forbidden"}
ELSEWHERE = OF_THE_DOOR | {"internal", "state_not_written", "store_unavailable", "not_ready", "draining", "overloaded", "deadline_exceeded", "bank_full"}
# With the limits of this server other refusals come before it.
NEVER_FIRST = {(operation, "request_too_large") for operation in ("encode", "add_styles", "add_slide")}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A server with little room, two models and a bundle that cannot be served."""
    folder = tmp_path_factory.mktemp("narrow")
    for name in ("tiny", "second"):
        install(folder / "models", name)
    limits = ["--max-body", "256KiB", "--max-inflight-bytes", "256KiB", "--max-tiles", "8", "--max-pixels", "10000"]
    server = Served(folder, *limits, "--forbid-domain", "south", "--default-model", "tiny", models=folder / "models")
    (install(folder / "models", "broken") / "encoder.onnx").write_bytes(b"broken")
    yield server
    server.kill()


@pytest.mark.parametrize("operation_id", sorted(PROVOKED))
def test_every_code_of_an_operation_comes_as_it_is_described(api, narrow, operation_id):
    method, path, operation = named(api)[operation_id]
    described = set()
    for status, response in operation["responses"].items():
        if status >= "400" and status != "405":
            described |= {(status, code) for code in response["content"]["application/problem+json"]["examples"]}
    for code, arguments in PROVOKED[operation_id].items():
        arguments = dict(arguments)
        places = {name: arguments.pop(name, "tiny") for name in ("name", "domain", "slide")}
        response = requests.request(method, narrow.url + path.format(**places), timeout=60, **arguments)
        assert response.json().get("code") == code, response.text[:500]
        check(api, operation, response)
        described.discard((str(response.status_code), code))
    left = {code for _, code in described if (operation_id, code) not in NEVER_FIRST}
    assert left <= ELSEWHERE, f"described and never seen: {left - ELSEWHERE}"


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A server with keys, and the tokens of three: of everything, of nothing that is asked, and of nothing any more."""
    folder = tmp_path_factory.mktemp("locked")
    every = "augment,styles,models,metrics"
    words = [["every", "--scope", every], ["spent", "--scope", every, "--requests-per-second", "0.0001", "--burst", "1"]]
    words += [[scope, "--scope", scope] for scope in every.split(",")]
    made = [subprocess.run([PROGRAM, "key", *each], capture_output=True, text=True, check=True) for each in words]
    (folder / "keys.toml").write_text("".join(each.stdout for each in made))
    server = Served(folder, "--keys", folder / "keys.toml")
    yield server, {each[0]: told.stderr.split()[-1] for each, told in zip(words, made)}
    server.kill()


@pytest.mark.parametrize("operation_id", sorted(PROVOKED))
def test_the_door_refuses_as_it_is_described(api, locked, operation_id):
    server, tokens = locked
    method, path, operation = named(api)[operation_id]
    has = {code for response in operation["responses"].values() for code in response.get("content", {}).get("application/problem+json", {}).get("examples", {})}
    url = server.url + path.format(name="no-such", domain="no-such", slide="no-such")

    def ask(token=None, **headers):
        head = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.request(method, url, headers={**head, **headers}, timeout=60)

    if not has & OF_THE_DOOR:
        assert ask().ok and "security" not in operation, "an open one"
        return
    assert OF_THE_DOOR <= has and operation["security"] == [{"key": []}, {}]
    ask(tokens["spent"])
    wrong = next(scope for scope in ("metrics", "augment") if ask(tokens[scope]).status_code == 403)
    for code, response in {
        "unauthenticated": ask(),
        "forbidden": ask(tokens[wrong]),
        "rate_limited": ask(tokens["spent"]),
        "origin_forbidden": ask(tokens["every"], Origin="https://evil.example"),
    }.items():
        assert response.json()["code"] == code
        check(api, operation, response)


def test_a_form_says_a_number_as_text(narrow):
    for said, status in [("0", 422), ("many", 400), (" 2.0 ", 201)]:
        response = requests.post(f"{narrow.url}/v1/styles", timeout=60, **form(png(16), domain="ours", styles=said))
        assert response.status_code == status, response.text
    assert requests.delete(f"{narrow.url}/v1/styles/ours", timeout=60).status_code == 204


def test_a_method_that_a_path_does_not_have_is_told_which_it_has(api, narrow):
    for path, item in api["paths"].items():
        response = requests.put(narrow.url + path.format(name="tiny", domain="ours", slide="none"), timeout=60)
        check(api, {"operationId": "any", "responses": {"405": next(iter(item.values()))["responses"]["405"]}}, response)
        has = {method.upper() for method in item}
        assert set(response.headers["allow"].split(",")) == has | ({"HEAD"} if "GET" in has else set())


def test_a_model_that_was_refused_is_listed_as_it_is_described(api, narrow):
    assert requests.post(f"{narrow.url}/v1/models/broken/load", timeout=60).status_code == 422
    listed = requests.get(f"{narrow.url}/v1/models", timeout=60)
    check(api, named(api)["list_models"][2], listed)
    assert {(model["name"], model["state"]) for model in listed.json()["models"]} == {("broken", "failed"), ("second", "ready"), ("tiny", "ready")}
