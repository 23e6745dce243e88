#!/usr/bin/env python3
"""The server beside LitServe, mosec and BentoML, which serve the same encoder, turn about, under the same load.

    make bench-peers                                          all of it, on a machine that does nothing else
    .deps/peers/bin/python benches/peers.py --restain PATH --seconds 5 --turns 1

Every tile is new, and every answer is its anatomy and characteristics in half precision: `/v1/encode` of the server, and the
same arrays from the others. All run ONNX Runtime in fp32 with as many threads as the machine has cores, and batches of as many tiles. The
generator is this process, threads that send prepared bodies and read the answers; it and the server share the machine.
Measured: tiles a second with 32 callers of one tile each and 4 callers of 32 tiles each, the latency of single tiles that
come at random at 70 % of the first rate, from the time that they were due, and the memory before the first request (PSS of
all processes of a server). Turns alternate between the servers, and the median is shown.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import queue
import random
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from importlib import metadata

import numpy as np
import onnxruntime
import urllib3

ROOT = pathlib.Path(__file__).resolve().parent.parent
APPS = pathlib.Path(__file__).resolve().parent / "peers"
BOUNDARY = "a-boundary-of-the-benchmark"
PATHS = {"restain": "/v1/encode", "litserve": "/predict", "mosec": "/inference", "bentoml": "/raw/"}
SAFETENSORS = "application/vnd.restain.safetensors"


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restain", default=ROOT / "target/release/restain", type=pathlib.Path)
    parser.add_argument("--bundle", default=ROOT / "models/demo", type=pathlib.Path, help="models/NAME; its highest version is used")
    parser.add_argument("--servers", default="restain,litserve,mosec,bentoml")
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path, help="a file for all figures")
    return parser.parse_args()


class Server:
    """A running server: how to start it, and how it takes tiles."""

    def __init__(self, name, bundle, restain):
        self.name = name
        version = max((path for path in bundle.iterdir() if path.is_dir()), key=lambda path: int(path.name))
        self.side = json.loads((version / "bundle.json").read_text())["geometry"]["image_size"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        cores = str(os.cpu_count())
        encoder = {"ENCODER": version / "encoder.onnx", "SIDE": self.side, "THREADS": cores, "BATCH": cores, "PORT": self.port}
        own = {"BENTOML_DO_NOT_TRACK": "true", "PYTHONPATH": str(APPS)}
        environment = {**os.environ, **own, **{f"PEERS_{key}": str(value) for key, value in encoder.items()}}
        http = f"127.0.0.1:{self.port}"
        commands = {
            "restain": [restain, "serve", "--models", bundle.parent, "--default-model", bundle.name, "--http", http, "--grpc", "127.0.0.1:0", "--log", "error"],
            "litserve": [sys.executable, APPS / "litserve_app.py"],
            "mosec": [sys.executable, APPS / "mosec_app.py", "--address", "127.0.0.1", "--port", self.port, "--timeout", "120000"],
            "bentoml": [sys.executable, "-m", "bentoml", "serve", "bentoml_app:Front", "--host", "127.0.0.1", "--port", self.port, "--working-dir", APPS],
        }
        self.url = f"http://{http}{PATHS[name]}"
        self.encoder = version / "encoder.onnx"
        command = [str(part) for part in commands[name]]
        self.log = open(pathlib.Path(tempfile.gettempdir()) / f"peers-{name}-{os.getpid()}.log", "wb")
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log, start_new_session=True)
        self._await_answer()
        self.idle_mib = self._pss_mib()

    def _await_answer(self):
        """Sends two tiles until they are answered, and checks the answer."""
        pool, end, tiles = urllib3.PoolManager(retries=False, timeout=120), time.monotonic() + 180, random_tiles(self.side, 2)
        while True:
            try:
                answer = send(pool, self, body(self, tiles))
                break
            except (urllib3.exceptions.HTTPError, RuntimeError) as error:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.stop()
                    raise SystemExit(f"{self.name} does not answer: {error}; see {self.log.name}") from error
                time.sleep(0.2)
        session = onnxruntime.InferenceSession(self.encoder, providers=["CPUExecutionProvider"])
        expected = session.run(["anatomy", "characteristics"], {"tiles": tiles})
        for name, made in zip(("anatomy", "characteristics"), halves(self, answer, expected[0].shape)):
            apart = np.abs(made.astype(np.float32) - expected[0 if name == "anatomy" else 1]).max()
            # Half precision has eleven bits; latents are below 16.
            if not apart < 0.02:
                self.stop()
                raise SystemExit(f"{self.name}: {name} differ from the encoder's by {apart}")

    def _pss_mib(self):
        kib = 0
        for process in family(self.process.pid):
            try:
                text = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text()
                kib += int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])
            except (ProcessLookupError, FileNotFoundError, TypeError):
                continue
        return kib / 1024

    def stop(self):
        processes = family(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            pass
        for process in processes:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        self.log.close()


def family(process):
    """Returns a process and all below it."""
    parents = {}
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except (ProcessLookupError, FileNotFoundError):
            continue
    found = [process]
    for parent in found:
        found += [child for child, above in parents.items() if above == parent]
    return found


def halves(server, answer, shape):
    """Returns anatomy and characteristics of an answer, float16 [n, N, h] each."""
    if server.name != "restain":
        return np.split(np.frombuffer(answer, np.float16).reshape(*shape[:2], -1), 2, axis=2)
    (length,) = struct.unpack("<Q", answer[:8])
    head = json.loads(answer[8 : 8 + length])
    ends = [head[name]["data_offsets"] for name in ("anatomy", "characteristics")]
    return [np.frombuffer(answer[8 + length + start : 8 + length + stop], np.float16).reshape(shape) for start, stop in ends]


def random_tiles(side, count):
    """uint8 [count, H, W, 3]: noise, so that each tile is new."""
    return np.frombuffer(random.randbytes(count * side * side * 3), np.uint8).reshape(count, side, side, 3)


def body(server, tiles):
    """Returns the headers and the bytes of a request in the server's own form."""
    if server.name == "restain":
        head = json.dumps({"tiles": {"dtype": "U8", "shape": list(tiles.shape), "data_offsets": [0, tiles.nbytes]}}).encode()
        head += b" " * (-len(head) % 8)
        return {"content-type": SAFETENSORS, "accept": SAFETENSORS}, struct.pack("<Q", len(head)) + head + tiles.tobytes()
    if server.name == "litserve":
        head = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="tiles"; filename="tiles"\r\ncontent-type: application/octet-stream\r\n\r\n'
        return {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}, head.encode() + tiles.tobytes() + f"\r\n--{BOUNDARY}--\r\n".encode()
    return {"content-type": "application/octet-stream"}, tiles.tobytes()


def send(pool, server, prepared):
    """Sends a request; returns the answer's body."""
    headers, content = prepared
    answer = pool.urlopen("POST", server.url, body=content, headers=headers)
    if answer.status != 200:
        raise RuntimeError(f"{answer.status} {answer.data[:300]!r}")
    return answer.data


class Load:
    """Threads that send requests until the time is over. Requests that fail are counted, and are neither tiles nor latencies."""

    def __init__(self, server, callers, tiles):
        self.server, self.callers, self.tiles = server, callers, tiles
        self.pool = urllib3.PoolManager(maxsize=callers, retries=False, timeout=120)
        self.failed = []

    def _run(self, work):
        threads = [threading.Thread(target=work) for _ in range(self.callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _sent(self, prepared):
        """Returns whether a request was answered with success."""
        try:
            send(self.pool, self.server, prepared)
        except (urllib3.exceptions.HTTPError, RuntimeError) as error:
            self.failed.append(error)
            return False
        return True

    def closed(self, seconds):
        """Returns tiles a second, with every caller sending its next request when the last is answered."""
        ends, begin = [], time.monotonic()
        warm, end = begin + seconds / 5, begin + seconds * 6 / 5

        def work():
            while time.monotonic() < end:
                if self._sent(body(self.server, random_tiles(self.server.side, self.tiles))):
                    ends.append(time.monotonic())

        self._run(work)
        if not any(at > warm for at in ends):
            raise SystemExit(f"{self.server.name}: no request of {self.tiles} tiles succeeded, {len(self.failed)} failed: {self.failed[:1]}")
        # To the last answer, because the requests in flight at the end are work too.
        return self.tiles * sum(at >= warm for at in ends) / (max(ends) - warm)

    def open(self, rate, seconds):
        """Returns the latencies in ms of requests that come at random at `rate` a second, from when they were due."""
        due, latencies, arrivals = queue.Queue(), [], random.Random(7)
        begin, at = time.monotonic(), 0.0
        while at < seconds:
            at += arrivals.expovariate(rate)
            due.put(begin + at)
        for _ in range(self.callers):
            due.put(None)

        def work():
            while (when := due.get()) is not None:
                prepared = body(self.server, random_tiles(self.server.side, self.tiles))
                time.sleep(max(0.0, when - time.monotonic()))
                if self._sent(prepared):
                    latencies.append((time.monotonic() - when) * 1e3)

        self._run(work)
        return sorted(latencies)


def measured(server, seconds):
    loads = [Load(server, *shape) for shape in ((32, 1), (4, 32), (128, 1))]
    single, many = loads[0].closed(seconds), loads[1].closed(seconds)
    latencies = loads[2].open(0.7 * single, seconds)
    failed = sum(len(load.failed) for load in loads)
    at = [latencies[min(len(latencies) - 1, int(share * len(latencies)))] for share in (0.5, 0.99)]
    return {"32 × 1": single, "4 × 32": many, "p50": at[0], "p99": at[1], "failed": failed, "idle": server.idle_mib}


def label(name, restain):
    if name == "restain":
        return subprocess.run([restain, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return f"{name} {metadata.version(name)}"


def main():
    chosen = options()
    names = chosen.servers.split(",")
    figures = {name: [] for name in names}
    for turn in range(chosen.turns):
        # Another first each turn.
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            server = Server(name, chosen.bundle, chosen.restain)
            try:
                figures[name].append(measured(server, chosen.seconds))
            finally:
                server.stop()
            print(f"turn {turn + 1}, {name}: {figures[name][-1]}", file=sys.stderr, flush=True)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load average {os.getloadavg()[1]:.1f} over five minutes, "
          f"{datetime.date.today()}, `{' '.join(sys.argv)}`, medians of {chosen.turns}\n")
    print("| | 32 callers × 1 tile, tiles/s | 4 × 32 tiles, tiles/s | p50 at 70 % load, ms | p99, ms | failed requests | idle memory, MiB |\n|---|---|---|---|---|---|---|")
    for name in names:
        middle = {key: statistics.median(turn[key] for turn in figures[name]) for key in figures[name][0]}
        print(f"| {label(name, chosen.restain)} | {middle['32 × 1']:.1f} | {middle['4 × 32']:.1f} | {middle['p50']:.0f} | {middle['p99']:.0f} | {middle['failed']:.0f} | {middle['idle']:.0f} |")
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
