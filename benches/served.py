#!/usr/bin/env python3
"""The server on a device beside its bare encoder, in one run: throughput, latency at 70 % load, memory. `benches/gpu.sh` runs it.

    benches/served.py --restain PATH --encoder PATH --models runs/models --bundle base/1 --device cuda:0 --precision fp16

Every tile is new, so that each is encoded. Three questions: tiles a second end to end, four variants a tile, over loopback HTTP, beside
the bare encoder turn about; the 99th percentile of requests that come at random at 70 % of that rate, beside the time of one batch; and the
memory of the device (of the process, on a CPU) while requests of all sizes come for --minutes.
"""

import argparse
import json
import pathlib
import random
import re
import signal
import statistics
import subprocess
import threading
import time

parser = argparse.ArgumentParser()
parser.add_argument("--restain", required=True)
parser.add_argument("--encoder", required=True, help="benches/encoder.rs, built")
parser.add_argument("--models", default="runs/models", type=pathlib.Path)
parser.add_argument("--bundle", default="base/1")
parser.add_argument("--device", default="cuda:0")
parser.add_argument("--precision", default="fp16")
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--tiles", type=int, default=32, help="of a request")
parser.add_argument("--concurrency", type=int, default=16)
parser.add_argument("--threads", type=int, default=4, help="of the generator")
parser.add_argument("--seconds", type=float, default=8, help="of each turn")
parser.add_argument("--turns", type=int, default=3)
parser.add_argument("--minutes", type=float, default=60, help="of requests of all sizes")
parser.add_argument("--json", type=pathlib.Path, help="a file for the figures")
options = parser.parse_args()


class Server:
    def __enter__(self):
        command = [options.restain, "serve", "--models", str(options.models), "--default-model", options.bundle.split("/")[0]]
        command += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--devices", options.device, "--precision", options.precision]
        command += ["--max-batch", str(options.batch), "--max-queue-tiles", "8192", "--max-inflight-bytes", "16GiB", "--log", "warn"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert "http://" in line, "the server did not start"
        self.url = re.search(r"http://[^ \n]+", line)[0]
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def memory_mib(self):
        if options.device == "cpu":
            status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
            return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024
        index = options.device.partition(":")[2] or "0"
        command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", index]
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


class Bare:
    def __init__(self):
        command = [options.encoder, str(options.models / options.bundle), options.device, options.precision]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def run(self):
        print("run", options.batch, options.seconds, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


def load(url, *flags, tiles=options.tiles, seconds=options.seconds):
    command = [options.restain, "load", url, "--json", "-", "--unique", "--tiles-per-request", str(tiles), "--duration", f"{round(seconds * 1000)}ms"]
    command += ["--threads", str(options.threads), *map(str, flags)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return json.loads(output[output.index("{"):])


def throughput(server, bare):
    """Turns of both; the server's rate, and figures."""
    turns = []
    for _ in range(options.turns):
        alone = bare.run()
        got = load(server.url, "--concurrency", options.concurrency, "--variants", 4, "--warmup", "2s")
        turns.append((got["throughput"]["tiles_per_s"], alone["tiles_per_second"], alone["batch_ms"]))
    ratio = statistics.median(served / alone for served, alone, _ in turns)
    served, alone, batch_ms = (statistics.median(column) for column in zip(*turns))
    print(f"served, 4 variants a tile: {served:,.1f} tiles/s, bare encoder {alone:,.1f}: ratio {ratio:.2f} (target 0.8)", flush=True)
    return served, {"served": served, "bare": alone, "ratio": ratio, "batch_ms": batch_ms}


def latency(server, rate, batch_ms):
    per_second = 0.7 * rate / options.tiles
    seconds = max(options.seconds * 2, 50 / per_second)
    got = load(server.url, "--rate", f"{per_second:.3f}", "--variants", 4, "--warmup", "2s", "--max-outstanding", 2000, seconds=seconds)
    p50, p99 = got["latency_ms"]["p50"], got["latency_ms"]["p99"]
    print(f"at 70 % load: p50 {p50:.1f} ms, p99 {p99:.1f} ms, one batch {batch_ms:.1f} ms: p99 is {p99 / batch_ms:.1f} batches (target 3)", flush=True)
    return {"requests_per_second": per_second, "p50_ms": p50, "p99_ms": p99, "batches": p99 / batch_ms}


def mixed(server):
    """Requests of all sizes, and the memory meanwhile."""
    sizes, samples, over = random.Random(7), [], threading.Event()

    def watch():
        while not over.wait(1):
            samples.append((time.monotonic() - started, server.memory_mib()))

    started = time.monotonic()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        while time.monotonic() - started < options.minutes * 60:
            tiles = min(2 ** sizes.uniform(0, 7), 128)
            load(server.url, "--concurrency", sizes.randint(1, options.concurrency), tiles=round(tiles), seconds=min(5, options.minutes * 12))
    finally:
        over.set()
        watcher.join()
    whole = time.monotonic() - started
    early = max(mib for at, mib in samples if at <= max(whole / 10, samples[0][0]))
    late = max(mib for _, mib in samples)
    print(f"requests of all sizes for {whole / 60:.1f} min: {early:,.0f} MiB in the first tenth, at most {late:,.0f} MiB after it", flush=True)
    return {"minutes": whole / 60, "early_mib": early, "most_mib": late, "samples": len(samples)}


bare = Bare()
with Server() as server:
    rate, figures = throughput(server, bare)
    # Its weights and arenas are not the server's.
    bare.process.stdin.close()
    bare.process.wait()
    figures |= {"latency": latency(server, rate, figures["batch_ms"]), "memory": mixed(server)}
if options.json:
    options.json.write_text(json.dumps(figures | {"device": options.device, "precision": options.precision, "batch": options.batch}, indent=1))
