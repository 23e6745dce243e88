"""Bytes that no client would send. Each is refused as what it is, or hung up on; none is the server's failure, and after each it serves."""

import json
import socket
import struct

import pytest
import requests
from served import SIDE, Served, install, tiles

SAFETENSORS = "application/vnd.restain.safetensors"


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacked")
    install(folder / "models")
    # A caller that never sends what it announced is waited for as long as a request may take.
    server = Served(folder, "--request-timeout", "2s", "--idle-timeout", "2s", models=folder / "models")
    yield server
    assert server.process.poll() is None, "it still runs"
    server.kill()
    log = (folder / "log").read_text()
    assert "panicked" not in log and "a request failed inside the server" not in log, log[-4000:]


def raw(server, data):
    """What comes back until the server hangs up; we say nothing more."""
    host, port = server.http.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        answer = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(1 << 16):
                answer += more
        except OSError:
            # Hung up on while we were still talking.
            pass
    return answer


def statuses(answer):
    return [int(line.split()[1]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


def still_serves(server):
    body = tiles(1).tobytes()
    head = json.dumps({"tiles": {"dtype": "U8", "shape": [1, SIDE, SIDE, 3], "data_offsets": [0, len(body)]}}).encode()
    response = requests.post(f"{server.url}/v1/augment", data=struct.pack("<Q", len(head)) + head + body, headers={"content-type": SAFETENSORS}, timeout=30)
    assert response.status_code == 200, response.text[:500]


def post(head, body=b"", path="/v1/augment"):
    return f"POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{head}\r\n".encode() + body


JSON = "content-type: application/json\r\n"
REQUESTS = {
    "no request at all": (b"\0" * 4000, {400}),
    "TLS": (bytes.fromhex("16030100a5010000a10303") + bytes(200), {400}),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), {400, 505}),
    "a path that is no URL": (b"GET http://[::bad HTTP/1.1\r\nhost: x\r\n\r\n", {400}),
    "a path with raw bytes": (b"GET /v1/models/\xff\xfe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", {400}),
    "a path that is no UTF-8": (b"GET /v1/models/%ff%00 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", {400}),
    "a path of a megabyte": (b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nhost: x\r\n\r\n", {414, 431}),
    "a path out of the tree": (b"GET /docs/../../../../etc/passwd HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", {404}),
    "a path out of the tree, escaped": (b"GET /docs/..%2f..%2f..%2fetc%2fpasswd HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", {404}),
    "a query that is no UTF-8": (post("content-type: image/png\r\ncontent-length: 1\r\n", b"x", "/v1/augment?model=%ff&%00=%00"), {400}),
    "a query of 10,000 fields": (post("content-type: image/png\r\ncontent-length: 1\r\n", b"x", "/v1/augment?" + "sheet=true&" * 5000), {400, 414, 431}),
    "a head of a megabyte": (post("x: " + "a" * (1 << 20) + "\r\n"), {431}),
    "a thousand heads": (post("".join(f"x{n}: y\r\n" for n in range(1000))), {431}),
    "a head with a NUL": (post("accept: a\0b\r\n"), {400}),
    "a media type that is no UTF-8": (b"POST /v1/augment HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: \xff\xfe\r\n\r\n", {415}),
    "an Accept that is no UTF-8": (b"GET /v1/styles HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept: \xff\xfe\r\n\r\n", {406}),
    "a request id that is no UTF-8": (b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: \xff\xfe\r\n\r\n", {200}),
    "a length below zero": (post(JSON + "content-length: -1\r\n", b"{}"), {400}),
    "a length of 30 digits": (post(JSON + f"content-length: {10**30}\r\n", b"{}"), {400, 413}),
    "a length that is no number": (post(JSON + "content-length: two\r\n", b"{}"), {400}),
    "two lengths": (post(JSON + "content-length: 2\r\ncontent-length: 3\r\n", b"{}"), {400}),
    "a length and chunks": (post(JSON + "content-length: 2\r\ntransfer-encoding: chunked\r\n", b"0\r\n\r\n"), {400}),
    "less than its length": (post(JSON + "content-length: 2000\r\n", b"{}"), {400}),
    "more than its length": (post(JSON + "content-length: 2\r\n", b"{}GET / HTTP/1.1\r\n\r\n"), {422}),
    "chunks of no number": (post(JSON + "transfer-encoding: chunked\r\n", b"zz\r\n{}\r\n0\r\n\r\n"), {400}),
    "a chunk of 2^64": (post(JSON + "transfer-encoding: chunked\r\n", b"FFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n"), {400}),
    "an encoding that there is not": (post(JSON + "transfer-encoding: gzip\r\n", b"{}"), {400, 501}),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_that_is_none_is_refused_or_hung_up_on(attacked, name):
    data, expected = REQUESTS[name]
    answer = raw(attacked, data)
    found = statuses(answer)
    assert not found or found[0] in expected, answer[:500]
    # What the protocol's own layer refuses has no body; everything behind it is a problem.
    if found and found[0] >= 400 and b"x-request-id" in answer:
        assert b"application/problem+json" in answer, answer[:500]
    still_serves(attacked)


DEEP = 100_000
BODIES = {
    "deep lists": b'{"request":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": b'{"request":' * DEEP + b"1" + b"}" * DEEP,
    "deep and open": b'{"tiles":' + b"[" * DEEP,
    "a number past all": b'{"request":{"strength":1e999}}',
    "a number below all": b'{"request":{"seed":-1e999}}',
    "a number of 10,000 digits": b'{"request":{"variants":' + b"9" * 10_000 + b"}}",
    "no number": b'{"request":{"strength":NaN}}',
    "a name twice": b'{"tiles":[],"tiles":[]}',
    "a NUL": b'{"request":{"model":"a\0b"}}',
    "half a surrogate": b'{"request":{"model":"\\ud800"}}',
    "no UTF-8": b'{"request":{"model":"\xff\xfe"}}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "nothing": b"",
    "spaces": b" " * 100_000,
    "a value of 100,000 names": b'{"request":{' + b",".join(b'"%d":0' % n for n in range(100_000)) + b"}}",
}


# Loading and unloading are mostly sent nothing.
PATHS = {"/v1/augment": BODIES, "/v1/encode": BODIES} | {f"/v1/models/tiny/{what}": set(BODIES) - {"nothing"} for what in ("load", "unload")}


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, names in PATHS.items() for name in sorted(names)])
def test_json_that_is_none_is_malformed(attacked, path, name):
    response = requests.post(attacked.url + path, data=BODIES[name], headers={"content-type": "application/json"}, timeout=30)
    expected = {(400, "malformed_request")} | ({(413, "body_too_large")} if path.startswith("/v1/models") else set())
    assert (response.status_code, response.json()["code"]) in expected, response.text[:500]
    assert len(response.text) < 10_000, "what was sent is not sent back"
    still_serves(attacked)


def part(head, body=b"x"):
    return b"--b\r\n" + head + b"\r\n\r\n" + body + b"\r\n"


NAMED = b'content-disposition: form-data; name="%s"'
FORMS = {
    "two requests": part(NAMED % b"request", b"{}") * 2 + b"--b--\r\n",
    "no name": part(b"content-disposition: form-data") + b"--b--\r\n",
    "no head": part(b"x: y") + b"--b--\r\n",
    "a name that is none of ours": part(NAMED % b"\xff\xfe") + b"--b--\r\n",
    "never closed": part(NAMED % b"tile"),
    "another boundary": part(NAMED % b"tile").replace(b"--b", b"--c"),
    "a head of a megabyte": part(NAMED % (b"a" * (1 << 20))) + b"--b--\r\n",
    "a deep request": part(NAMED % b"request", b"[" * DEEP) + b"--b--\r\n",
    "a key that is none": part(NAMED % b"key", b"\0" * 64) + b"--b--\r\n",
    "nothing": b"",
    "nothing but the end": b"--b--\r\n",
}


@pytest.mark.parametrize("path", ["/v1/augment", "/v1/encode", "/v1/styles"])
@pytest.mark.parametrize("name", FORMS)
def test_a_form_that_is_none_is_malformed(attacked, path, name):
    kind = {"content-type": "multipart/form-data; boundary=b"}
    response = requests.post(attacked.url + path, data=FORMS[name], headers=kind, timeout=30)
    expected = {"malformed_request"} | ({"no_tiles", "domain_name"} if name == "nothing but the end" else set())
    assert response.status_code < 500 and response.json()["code"] in expected, response.text[:500]
    still_serves(attacked)


def test_ten_thousand_parts_are_counted_and_not_decoded(attacked):
    body = part(NAMED % b"tile") * 10_000 + b"--b--\r\n"
    response = requests.post(f"{attacked.url}/v1/augment", data=body, headers={"content-type": "multipart/form-data; boundary=b"}, timeout=30)
    assert (response.status_code, response.json()["code"]) == (413, "too_many_tiles")


def tensor(head, data=b"", said=None):
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(text) if said is None else said) + text + data


def one(shape, offsets, dtype="U8", name="tiles"):
    return {name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


HUGE = 2**64 - 1
TENSORS = {
    "no head": b"",
    "half a length": b"\x08\0\0\0",
    "a head longer than the body": tensor(b"{}", said=100),
    "a head of 2^64": tensor(b"{}", said=HUGE),
    "a head of 2^63": tensor(b"{}", said=2**63),
    "a deep head": tensor(b"[" * DEEP),
    "a deep request": tensor({"__metadata__": {"request": "[" * DEEP}}),
    "a product that overflows": tensor(one([2**32, 2**32, 2**32, 3], [0, 0])),
    "a product that overflows to something": tensor(one([2**62, 2, 2, 3], [0, 0])),
    "sizes without pixels": tensor(one([0, HUGE, HUGE, 3], [0, 0])),
    "no rank": tensor(one([], [0, 1]), b"x"),
    "a rank of 10,000": tensor(one([1] * 10_000, [0, 1]), b"x"),
    "no height": tensor(one([1, 0, 5, 3], [0, 0])),
    "an end before the beginning": tensor(one([1, 1, 1, 3], [3, 0]), b"xyz"),
    "an end beyond the body": tensor(one([1, 1, 1, 3], [0, 2**40]), b"xyz"),
    "a type that is none": tensor(one([1, 1, 1, 3], [0, 3], "U9"), b"xyz"),
    "a type of half bytes": tensor(one([1, 1, 2, 3], [0, 3], "F4"), b"xyz"),
    "a key too short": tensor(one([1, 31], [0, 31], name="keys"), bytes(31)),
    "two on the same bytes": tensor({**one([1, 1, 1, 3], [0, 3]), **one([1, 1, 1, 3], [0, 3], name="references")}, b"xyz"),
    "bytes that are nobody's": tensor(one([1, 1, 1, 3], [3, 6]), b"xyzxyz"),
    "bytes behind the last": tensor(one([1, 1, 1, 3], [0, 3]), b"xyzxyz"),
    "a name of a megabyte": tensor(one([1, 1, 1, 3], [0, 3], name="a" * (1 << 20)), b"xyz"),
}


@pytest.mark.parametrize("path", ["/v1/augment", "/v1/encode", "/v1/styles"])
@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_that_is_none_is_malformed(attacked, path, name):
    response = requests.post(attacked.url + path, data=TENSORS[name], headers={"content-type": SAFETENSORS}, timeout=30)
    expected = {(400, "malformed_request")} | ({(422, "no_tiles")} if name == "sizes without pixels" else set())
    assert (response.status_code, response.json()["code"]) in expected, response.text[:500]
    assert len(response.text) < 10_000, "what was sent is not sent back"
    still_serves(attacked)


def test_a_body_that_never_comes_ends_with_the_deadline(attacked):
    host, port = attacked.http.split(":")
    for path in ("/v1/augment", "/v1/styles", "/v1/models/tiny/load", "/v1/models/tiny/unload"):
        kind = SAFETENSORS if path in ("/v1/augment", "/v1/styles") else "application/json"
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(post(f"content-type: {kind}\r\ncontent-length: 100\r\n", b"{", path))
            answer = connection.recv(1 << 16)
        assert statuses(answer) == [504] and b"deadline_exceeded" in answer, path
    still_serves(attacked)
