#!/usr/bin/env python3
"""A long mixed load on one server, with its memory watched: every form, refusals, callers who leave, callers who mean ill
(hostile_callers.py), models that are loaded anew, styles that come and go. Fails when an answer is not the one expected, or when memory, threads or file descriptors grow.

    make soak               an hour
    make soak MINUTES=5     less

Memory is compared after a warm-up of a quarter of the time (ten minutes at most): the median resident size of the last fifth
of what follows against that of its first fifth. It may grow by GROWTH_MIB and no more. A slow machine may run anything else
beside it: nothing here is timed.
"""

import argparse
import base64
import collections
import http.client
import io
import json
import os
import random
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from importlib import import_module
from pathlib import Path

import numpy as np
from hostile_callers import HostileCaller
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
FIXTURE = ROOT / "tests/fixtures/bundle-tiny"
SIDE = 32
TENSORS = "application/vnd.restain.safetensors"
GROWTH_MIB = 24.0
SAMPLE_S = 5
CALLERS = 4
HOSTILE = 2
FLAGS = ["--cache-memory", "16MiB", "--max-queue-tiles", "512", "--idle-timeout", "20s", "--log", "error"]


def install(models, note):
    """The fixture with a note in its manifest, which makes it another bundle of the same name."""
    home, staging = models / "tiny/1", models / ".staging"
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(FIXTURE, staging)
    manifest = json.loads((staging / "bundle.json").read_text())
    manifest["quality"]["note"] = note
    (staging / "bundle.json").write_text(json.dumps(manifest))
    home.parent.mkdir(exist_ok=True)
    if home.exists():
        os.replace(staging / "bundle.json", home / "bundle.json")
    else:
        staging.rename(home)


def tile(rng):
    return np.frombuffer(rng.randbytes(SIDE * SIDE * 3), np.uint8).reshape(SIDE, SIDE, 3) // 3 + 140


def png(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def safetensors(tensors, request):
    header, data = {"__metadata__": {"request": json.dumps(request)}}, b""
    for name, array in tensors.items():
        content = array.tobytes()
        header[name] = {"dtype": "U8", "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def form(**parts):
    body = b""
    for name, content in parts.items():
        for part in content if isinstance(content, list) else [content]:
            body += f'--X\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + part + b"\r\n"
    return body + b"--X--\r\n", "multipart/form-data; boundary=X"


class Unexpected(Exception):
    pass


class Caller:
    """One caller with a connection of its own, who does at random what callers do."""

    def __init__(self, address, number, counts):
        self.host, self.port = address.rsplit(":", 1)
        self.rng, self.number, self.counts = random.Random(number), number, counts
        self.connection = http.client.HTTPConnection(self.host, int(self.port), timeout=120)
        self.keys, self.domains = collections.deque(maxlen=8), 0
        self.acts = [getattr(self, name) for name in dir(self) if name.startswith("act_")]

    def once(self):
        act = self.rng.choice(self.acts)
        act()
        self.counts[act.__name__.removeprefix("act_")] += 1

    def ask(self, method, path, body=None, expected=(200,), **headers):
        """The answer's body. A busy server asks to come back later, which is no failure."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status == 429:
            self.counts["asked to come back"] += 1
        elif answer.status not in expected:
            raise Unexpected(f"{method} {path}: {answer.status}, expected {expected}: {content[:300]!r}")
        return answer.status, content

    def act_png(self):
        kind = self.rng.choice(["PNG", "JPEG", "WEBP", "TIFF"])
        accept = self.rng.choice(["image/png", "image/jpeg", "image/webp"])
        self.ask("POST", "/v1/augment?seed=1", png(tile(self.rng), kind), content_type="image/x", accept=accept)

    def act_tensors(self):
        tiles = np.stack([tile(self.rng) for _ in range(self.rng.randint(1, 32))])
        request = {"variants": self.rng.randint(1, 4), "style": {"from": self.rng.choice(["bank", "own"])}}
        self.ask("POST", "/v1/augment", safetensors({"tiles": tiles}, request), content_type=TENSORS, accept=TENSORS)

    def act_json(self):
        tiles = [base64.b64encode(png(tile(self.rng))).decode()]
        status, content = self.ask("POST", "/v1/augment", json.dumps({"tiles": tiles}), content_type="application/json")
        if status == 200:
            self.keys.append(json.loads(content)["tiles"][0]["tile_key"])

    def act_form(self):
        body, kind = form(request=b'{"variants":3,"method":"color-match"}', tile=[png(tile(self.rng)), png(tile(self.rng))])
        self.ask("POST", "/v1/augment", body, content_type=kind, accept="application/x-tar")

    def act_key(self):
        key = self.rng.choice(self.keys) if self.keys else "ab" * 32
        self.ask("POST", "/v1/augment", json.dumps({"keys": [key]}), expected=(200, 404), content_type="application/json")

    def act_encode(self):
        tiles = np.stack([tile(self.rng)])
        self.ask("POST", "/v1/encode", safetensors({"tiles": tiles}, {}), content_type=TENSORS)

    def act_inference(self):
        pixels = tile(self.rng).tobytes()
        tensor = {"name": "TILES", "datatype": "UINT8", "shape": [1, SIDE, SIDE, 3], "parameters": {"binary_data_size": len(pixels)}}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        self.ask("POST", "/v2/models/tiny/infer", head + pixels, Inference_Header_Content_Length=str(len(head)))

    def act_refusals(self):
        image = {"content_type": "image/png"}
        self.ask("POST", "/v1/augment?variants=0", png(tile(self.rng)), (422,), **image)
        self.ask("POST", "/v1/augment", self.rng.randbytes(100), (422,), **image)
        self.ask("POST", "/v1/augment", png(tile(self.rng))[:300], (422,), **image)
        self.ask("POST", "/v1/augment", b"{", (400,), content_type="application/json")
        self.ask("GET", f"/nowhere/{self.rng.random()}", None, (404,))

    def act_look(self):
        for path in ("/v1/models", "/v1/styles", "/metrics", "/health/ready", "/openapi.json"):
            self.ask("GET", path)

    def act_styles(self):
        self.domains += 1
        name = f"soak-{self.number}-{self.domains}"
        body, kind = form(domain=name.encode(), tile=[png(tile(self.rng)), png(tile(self.rng))])
        # The bundle may be changed for another between the two, and then the domain is with the old one.
        if self.ask("POST", "/v1/styles", body, (201,), content_type=kind)[0] == 201:
            self.ask("DELETE", f"/v1/styles/{name}", None, (204, 404))

    def act_leave(self):
        body = safetensors({"tiles": np.stack([tile(self.rng)] * 16)}, {"variants": 8})
        head = f"POST /v1/augment HTTP/1.1\r\nhost: x\r\ncontent-type: {TENSORS}\r\naccept: {TENSORS}\r\ncontent-length: {len(body)}\r\n\r\n"
        with socket.create_connection((self.host, int(self.port))) as stream:
            if self.rng.random() < 0.5:
                # Reset, rather than closed.
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.sendall(head.encode() + body[: self.rng.randint(0, len(body))])


class RpcCaller:
    """The same over gRPC: whole calls, refused ones, and ones that are cancelled."""

    def __init__(self, address, counts, folder):
        import grpc
        from grpc_tools import protoc

        # Beside its messages, not the project's own package of the same name.
        if protoc.main(["", f"-I{ROOT / 'proto/restain/v1'}", f"--python_out={folder}", "restain.proto"]):
            sys.exit("restain.proto cannot be compiled")
        sys.path.insert(0, str(folder))
        self.grpc, self.pb, self.counts, self.rng = grpc, import_module("restain_pb2"), counts, random.Random(99)
        pb, channel = self.pb, grpc.insecure_channel(address)
        method = ("/restain.v1.Restain/Augment", pb.AugmentRequest.SerializeToString, pb.AugmentResponse.FromString)
        self.augment = channel.unary_unary(*method)

    def once(self):
        pixels = self.pb.Pixels(height=SIDE, width=SIDE, data=tile(self.rng).tobytes())
        request = self.pb.AugmentRequest(tiles=self.pb.Tiles(pixels=pixels), variants=self.rng.choice([0, 1, 8]))
        call = self.augment.future(request, timeout=120)
        if self.rng.random() < 0.25:
            call.cancel()
            self.counts["grpc cancelled"] += 1
            return
        code = call.code()
        allowed = {0: ("INVALID_ARGUMENT", "OUT_OF_RANGE")}.get(request.variants, ("OK", "RESOURCE_EXHAUSTED"))
        if code.name not in allowed:
            raise Unexpected(f"gRPC: {code.name}, expected {allowed}: {call.details()}")
        self.counts["grpc"] += 1


class Reloader:
    """Loads the bundle with other contents, every few seconds."""

    def __init__(self, address, models, counts, stop):
        self.caller, self.models, self.counts, self.stop, self.loads = Caller(address, 1000, counts), models, counts, stop, 0

    def once(self):
        self.stop.wait(7)
        self.loads += 1
        install(self.models, f"load {self.loads}")
        self.caller.ask("POST", "/v1/models/tiny/load", b"{}", content_type="application/json")
        self.counts["models loaded"] += 1


def sample(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    number = lambda name: int(re.search(rf"{name}:\s+(\d+)", status)[1])
    return {"rss_mib": number("VmRSS") / 1024, "threads": number("Threads"), "descriptors": len(os.listdir(f"/proc/{pid}/fd"))}


def run(program, minutes, out):
    folder = Path(tempfile.mkdtemp(prefix="restain-soak-"))
    models, failures, counts, stop = folder / "models", [], collections.Counter(), threading.Event()
    models.mkdir()
    install(models, "first")
    command = [program, "serve", "--models", models, "--state", folder / "state", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", *FLAGS]
    environment = {"ORT_DYLIB_PATH": str(ROOT / ".deps/onnxruntime/lib/libonnxruntime.so"), **os.environ}
    process = subprocess.Popen(list(map(str, command)), env=environment, stdout=subprocess.PIPE, text=True)
    address = re.search(r"http://([^ \n]+)", process.stdout.readline())[1]
    grpc = process.stdout.readline().removeprefix("gRPC on ").strip()
    callers = [Caller(address, number, counts) for number in range(CALLERS)]
    callers += [RpcCaller(grpc, counts, folder), Reloader(address, models, counts, stop)]
    callers += [HostileCaller(address, grpc, counts, Unexpected) for _ in range(HOSTILE)]

    def work(caller):
        while not stop.is_set():
            try:
                caller.once()
            except Exception as error:  # whatever it is, it was not expected
                failures.append(f"{type(error).__name__}: {error}")
                stop.set()

    threads = [threading.Thread(target=work, args=(caller,)) for caller in callers]
    started, samples = time.monotonic(), []
    [thread.start() for thread in threads]
    try:
        while time.monotonic() < started + minutes * 60 and not stop.is_set() and process.poll() is None:
            samples.append({"s": round(time.monotonic() - started, 1), **sample(process.pid)})
            stop.wait(SAMPLE_S)
    finally:
        stop.set()
        [thread.join() for thread in threads]
        after = sample(process.pid) if process.poll() is None else failures.append(f"the server ended with {process.returncode}")
        process.terminate()
        process.wait()
        shutil.rmtree(folder)
    return report(minutes, samples, counts, failures, after, out)


def report(minutes, samples, counts, failures, after, out):
    warm = [one for one in samples if one["s"] >= min(minutes * 60 / 4, 600)]
    fifth = max(1, len(warm) // 5)
    median = lambda part, name: statistics.median(one[name] for one in part)
    said = {"minutes": round(samples[-1]["s"] / 60, 1), "answers": sum(counts.values()), "counts": dict(counts.most_common()), "after": after}
    if warm:
        for name, bound in (("rss_mib", GROWTH_MIB), ("threads", 4), ("descriptors", 16)):
            first, last = median(warm[:fifth], name), median(warm[-fifth:], name)
            said[name] = {"first": round(first, 1), "last": round(last, 1), "most": round(max(one[name] for one in warm), 1), "growth_allowed": bound}
            if last - first > bound:
                failures.append(f"{name} grew from {first:.1f} to {last:.1f}, and may grow by {bound}")
    said["failures"] = failures
    if out:
        Path(out).write_text(json.dumps({**said, "samples": samples}))
    print(json.dumps(said, indent=2))
    return 1 if failures else 0


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("program", help="the server, built")
parser.add_argument("--minutes", type=float, default=60)
parser.add_argument("--out", help="a file for the report with every sample")
arguments = parser.parse_args()
sys.exit(run(arguments.program, arguments.minutes, arguments.out))
