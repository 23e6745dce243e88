"""Models and state in an object store: the real server against a real S3-compatible one, which dies and comes back."""

import base64
import io
import json
import subprocess
import threading
import time

import pytest
import requests
from buckets import BadLine, keys_are_checked, variables
from PIL import Image
from served import FIXTURE, PROGRAM, environment, install, tiles, until


@pytest.fixture
def models(buckets, tmp_path):
    """The URL of a bucket that holds tiny/1."""
    install(tmp_path / "original")
    url = buckets.make("models")
    buckets.put(tmp_path / "original", "models", "of/ours/")
    return f"{url}/of/ours"


def png(tile):
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "png")
    return buffer.getvalue()


def variants(server, tile, **options):
    body = {"tiles": [base64.b64encode(png(tile)).decode()], "request": {"seed": 1, "variants": 2, **options}}
    answer = requests.post(f"{server.url}/v1/augment", json=body, timeout=30)
    answer.raise_for_status()
    return [variant["image"] for variant in answer.json()["tiles"][0]["variants"]]


def add(server, domain, tile):
    form = {"domain": (None, domain), "tile": ("tile.png", png(tile))}
    return requests.post(f"{server.url}/v1/styles", files=form, timeout=60)


def domains(server):
    return [domain["domain"] for domain in requests.get(f"{server.url}/v1/styles", timeout=30).json()["domains"]]


def versions(server):
    return sorted(model["version"] for model in requests.get(f"{server.url}/v1/models", timeout=30).json()["models"])


def metric(server, line):
    text = requests.get(f"{server.url}/metrics", timeout=30).text
    return next((float(found.split()[-1]) for found in text.splitlines() if found.startswith(line)), 0.0)


def refusal(*flags, **more):
    """What a server says that does not start."""
    command = [str(PROGRAM), "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", *map(str, flags)]
    ended = subprocess.run(command, env=environment() | more, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    [line] = [line for line in ended.stderr.splitlines() if line.startswith("restain:")]
    return line


# --- models


def test_a_bucket_serves_what_a_directory_serves(serve, models, tmp_path):
    [tile] = tiles(1)
    here, there = serve(), serve("--models-cache", tmp_path / "copies", models=models)
    assert variants(there, tile) == variants(here, tile)


def test_versions_come_and_go_with_the_bucket(serve, buckets, models, tmp_path):
    server = serve("--models-cache", tmp_path / "copies", "--poll-models", "200ms", models=models)
    assert versions(server) == ["1"]
    install(tmp_path / "second", version="2")
    # The manifest comes first, as a copy of a folder may have it: what is not whole is not served.
    for name in sorted(path.name for path in FIXTURE.iterdir()):
        path = tmp_path / "second/tiny/2" / name
        buckets.client().upload_file(str(path), "models", f"of/ours/tiny/2/{name}")
    until(lambda: versions(server) == ["1", "2"])
    for name in buckets.names("models", "of/ours/tiny/1/"):
        buckets.client().delete_object(Bucket="models", Key=name)
    until(lambda: versions(server) == ["2"])


def test_a_load_fetches_what_is_new(serve, buckets, models, tmp_path):
    server = serve("--models-cache", tmp_path / "copies", models=models)
    install(tmp_path / "second", version="2")
    buckets.put(tmp_path / "second", "models", "of/ours/")
    loaded = requests.post(f"{server.url}/v1/models/tiny/load", json={"version": "2"}, timeout=60)
    assert loaded.status_code == 200, loaded.text
    assert versions(server) == ["1", "2"]


def test_a_server_outlives_its_store_and_starts_from_its_copies_without_it(serve, buckets, models, tmp_path):
    [tile] = tiles(1)
    copies = tmp_path / "copies"
    server = serve("--models-cache", copies, "--poll-models", "200ms", models=models)
    before = variants(server, tile)
    buckets.stop()
    until(lambda: metric(server, 'restain_store_failures_total{store="models"}') > 0)
    assert variants(server, tile) == before
    refused = requests.post(f"{server.url}/v1/models/tiny/load", json={"version": "2"}, timeout=60)
    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    assert "cannot be reached" in refused.json()["detail"]

    again = serve("--models-cache", copies, models=models)
    assert variants(again, tile) == before
    assert "the bundles are those that were copied before" in (again.folder / "log").read_text()

    buckets.go_on()
    install(tmp_path / "second", version="2")
    buckets.put(tmp_path / "second", "models", "of/ours/")
    until(lambda: versions(server) == ["1", "2"])


def test_a_bundle_is_fetched_once(serve, buckets, models, tmp_path):
    copies = tmp_path / "copies"
    serve("--models-cache", copies, models=models)
    [weights] = copies.glob("*/tiny/1/*.onnx")
    first = weights.stat()
    serve("--models-cache", copies, models=models)
    assert weights.stat().st_ino == first.st_ino


def test_a_slow_line_that_is_cut_serves_all_the_same(serve, buckets, models, tmp_path, monkeypatch):
    line = BadLine(buckets.port, cut_after=20_000, cuts=3, pause=0.01)
    monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
    [tile] = tiles(1)
    assert variants(serve("--models-cache", tmp_path / "copies", models=models), tile) == variants(serve(), tile)
    assert line.cuts == 0
    line.close()


def test_a_damaged_object_is_no_bundle(serve, buckets, models, tmp_path):
    server = serve("--models-cache", tmp_path / "copies", "--poll-models", "200ms", models=models)
    install(tmp_path / "second", version="2")
    [weights] = (tmp_path / "second/tiny/2").glob("*.onnx")
    damaged = bytearray(weights.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    weights.write_bytes(damaged)
    buckets.put(tmp_path / "second", "models", "of/ours/")
    until(lambda: "a bundle is not copied" in (server.folder / "log").read_text())
    assert versions(server) == ["1"]
    assert "sha256" in (server.folder / "log").read_text()


def test_a_plain_web_server_offers_one_bundle(serve, tmp_path):
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    install(tmp_path / "web/models")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "web")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{web.server_address[1]}/models/tiny/1"
        server = serve("--models-cache", tmp_path / "copies", models=url)
        assert versions(server) == ["1"]
        web.shutdown()


def test_what_is_wrong_with_a_store_is_one_line_and_soon(buckets, models, tmp_path):
    flags = ["--models-cache", tmp_path / "none"]
    begun = time.monotonic()
    assert "s3://no-such/models: there is no such bucket" in refusal("--models", "s3://no-such/models", *flags)
    assert "no bundle under" in refusal("--models", f"{models}/deeper", *flags)
    with keys_are_checked():
        said = refusal("--models", models, *flags)
    assert "the credentials are refused (403): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in said
    assert "the state cannot be used: s3://no-such: there is no such bucket" in refusal("--state", "s3://no-such")
    buckets.stop()
    # A name or a port with the digits of a status in it is no answer.
    named = f"{models}/401/403/AccessDenied/NoSuchBucket"
    assert f"{named}/bundle.json: the store cannot be reached: Connection refused" in refusal("--models", named, *flags)
    buckets.go_on()
    assert time.monotonic() - begun < 60


def test_keys_that_may_read_do(serve, buckets, models, tmp_path, monkeypatch):
    key, secret = buckets.user()
    with keys_are_checked():
        for name, value in variables(buckets.url, key, secret).items():
            monkeypatch.setenv(name, value)
        assert versions(serve("--models-cache", tmp_path / "copies", models=models)) == ["1"]


# --- state


def test_replicas_share_what_is_added(serve, buckets):
    state = buckets.make("state") + "/of/ours"
    flags = ["--state", state, "--poll-state", "100ms"]
    one, other = serve(*flags), serve(*flags)
    own = domains(one)
    added = add(one, "night", tiles(1)[0])
    assert (added.status_code, added.json()["persistent"]) == (201, True)
    # It was written before it was acknowledged.
    assert len(buckets.names("state", "of/ours/styles/")) == 1
    until(lambda: domains(other) == [*own, "night"])
    [tile] = tiles(1, seed=9)
    assert variants(one, tile, style={"domains": ["night"]}) == variants(other, tile, style={"domains": ["night"]})
    assert requests.delete(f"{other.url}/v1/styles/night", timeout=30).status_code == 204
    until(lambda: domains(one) == own)
    # The gauge follows what others did.
    until(lambda: metric(one, 'restain_styles{domain="night"}') == 0)


def test_of_replicas_that_add_at_once_none_loses_anything(serve, buckets):
    state = buckets.make("state")
    flags = ["--state", state, "--poll-state", "100ms"]
    servers = [serve(*flags) for _ in range(3)]
    own = domains(servers[0])
    names = [f"of{number}" for number in range(12)]
    answers = {}

    def add_some(server, mine):
        for name in mine:
            answers[name] = add(server, name, tiles(1, seed=int(name[2:]))[0]).status_code

    threads = [threading.Thread(target=add_some, args=(server, names[place::3])) for place, server in enumerate(servers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == dict.fromkeys(names, 201)
    for server in servers:
        until(lambda server=server: sorted(domains(server)) == sorted(own + names))
    # Of one name, one replica has it.
    same = [add(server, "same", tiles(1)[0]).status_code for server in servers]
    assert sorted(same) == [201, 409, 409]


def test_what_was_acknowledged_is_there_after_a_kill(serve, buckets):
    state = buckets.make("state")
    server = serve("--state", state)
    own = domains(server)
    assert add(server, "night", tiles(1)[0]).status_code == 201
    server.process.kill()
    assert domains(serve("--state", state)) == [*own, "night"]


def test_without_its_store_a_server_keeps_what_it_knows_and_adds_nothing(serve, buckets):
    state = buckets.make("state")
    server = serve("--state", state, "--poll-state", "100ms")
    assert add(server, "night", tiles(1)[0]).status_code == 201
    [tile] = tiles(1, seed=9)
    before = variants(server, tile, style={"domains": ["night"]})
    buckets.stop()
    refused = add(server, "day", tiles(1, seed=2)[0])
    assert (refused.status_code, refused.json()["code"]) == (500, "state_not_written")
    assert variants(server, tile, style={"domains": ["night"]}) == before
    until(lambda: metric(server, 'restain_store_failures_total{store="state"}') > 0)
    buckets.go_on()
    assert add(server, "day", tiles(1, seed=2)[0]).status_code == 201


def test_a_damaged_bank_is_neither_read_nor_written_over(serve, buckets):
    state = buckets.make("state")
    server = serve("--state", state, "--poll-state", "100ms")
    assert add(server, "night", tiles(1)[0]).status_code == 201
    [name] = [name for name in buckets.names("state") if name.startswith("styles/")]
    buckets.client().put_object(Bucket="state", Key=name, Body=b"rubbish")
    refused = add(server, "day", tiles(1, seed=2)[0])
    assert refused.status_code == 500
    assert "no style bank of this model, and is left as it is" in refused.json()["detail"]
    assert buckets.get("state", name) == b"rubbish"
    assert "night" in domains(server)


def test_slides_are_shared_too(serve, buckets):
    state = buckets.make("state")
    flags = ["--state", state, "--poll-state", "100ms"]
    one, other = serve(*flags), serve(*flags)
    files = [("tile", ("tile.png", png(tile))) for tile in tiles(4)]
    made = requests.post(f"{one.url}/v1/slides", files=files, timeout=60)
    assert made.status_code == 201, made.text
    slide = made.json()["slide"]
    [tile] = tiles(1, seed=9)

    def known():
        try:
            return variants(other, tile, slide=slide)
        except requests.HTTPError as error:
            assert json.loads(error.response.text)["code"] == "unknown_slide"
            return None

    assert until(known) == variants(one, tile, slide=slide)
