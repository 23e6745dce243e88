#!/usr/bin/env python3
"""The server against what it is compared with, as ratios of one run: the table of BENCHMARKS.md.

    make bench-serve                       all of it, about a quarter of an hour
    python3 benches/serve.py cached int8   some of it

Needs target/release/restain, the bench `floor`, and untrained bundles of the base size in runs/models (made by `make
bench-serve`, whose trainer writes them). Nothing else may run on the machine: the generator shares it with the server.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESTAIN = ROOT / "target/release/restain"
BASE, DEMO = ROOT / "runs/models", ROOT / "models"
KEYED = ["--send", "key", "--distinct", "64", "--tiles-per-request", "32"]
TENSORS = ["--body-format", "safetensors", "--accept", "safetensors"]


def floor_program():
    built = subprocess.run(
        ["cargo", "bench", "--locked", "--no-run", "--bench", "floor", "--message-format=json"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "floor")


class Program:
    """A process that says where it is ready, until the end of the block."""

    def __init__(self, *arguments):
        started = time.monotonic()
        self.process = subprocess.Popen([str(a) for a in arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.ready_seconds = time.monotonic() - started
        self.url = re.search(r"http://[^ \n]+", line)[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def rss_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


def server(models, *flags):
    return Program(RESTAIN, "serve", "--models", models, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--log", "error", *flags)


def load(url, *flags):
    report = subprocess.run([str(RESTAIN), "load", url, "--json", "-", *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    text = report.stdout.decode()
    return json.loads(text[text.index("{"):])


def bare(precision, largest="4"):
    """Tiles a second and seconds a batch, by batch size: a CPU is fastest at few tiles."""
    threads = str(os.cpu_count())
    command = [FLOOR, "bare", str(BASE / "base/1"), precision, threads, largest]
    printed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    found = re.findall(r"batch +(\d+): +([\d.]+) tiles/s, ([\d.]+) s", printed.stdout)
    return {int(batch): (float(rate), float(seconds)) for batch, rate, seconds in found}


def row(what, reached, target, detail):
    print(f"| {what} | {reached} | {target} | {detail} |", flush=True)


def uncached(precision="fp32"):
    """Turn about, since the speed of a shared machine drifts by more than what is to be shown."""
    rounds = []
    with server(BASE, "--precision", precision) as served:
        for _ in range(3):
            best = max(rate for rate, _ in bare(precision).values())
            got = load(served.url, "--unique", "--tiles-per-request", "32", "--concurrency", "4", "--duration", "20s", "--warmup", "4s", *TENSORS)
            rounds.append((got["throughput"]["tiles_per_s"], best))
    rate, best = sorted(rounds, key=lambda pair: pair[0] / pair[1])[1]
    said = ", ".join(f"{rate:.2f} of {best:.2f}" for rate, best in rounds)
    row(f"uncached, {precision}: tiles/s ÷ bare encoder", f"{rate / best:.3f}", "≥ 0.95", f"median of {said}")
    return rate


def int8():
    """Turn about again, for the same reason."""
    rounds = [[bare(precision, "2")[2][0] for precision in ("int8", "fp32")] for _ in range(3)]
    eight, whole = sorted(rounds, key=lambda pair: pair[0] / pair[1])[1]
    row("int8 ÷ fp32, the encoder alone", f"{eight / whole:.2f}", "", ", ".join(f"{a:.2f} of {b:.2f}" for a, b in rounds))
    rates = []
    with server(BASE, "--precision", "int8") as quick, server(BASE) as slow:
        for _ in range(3):
            pace = ["--unique", "--tiles-per-request", "32", "--concurrency", "4", "--duration", "12s", "--warmup", "3s", *TENSORS]
            rates.append([load(served.url, *pace)["throughput"]["tiles_per_s"] for served in (quick, slow)])
    eight, whole = sorted(rates, key=lambda pair: pair[0] / pair[1])[1]
    row("int8 ÷ fp32, uncached", f"{eight / whole:.2f}", "≥ 2.2 with VNNI", "median of " + ", ".join(f"{a:.2f} of {b:.2f}" for a, b in rates))


def variants():
    with server(BASE) as served:
        once = [load(served.url, "--unique", "--tiles-per-request", "16", "--concurrency", "1", "--requests", "6", "--warmup", "0s",
                     "--variants", str(n), *TENSORS)["latency_ms"]["p50"] for n in (1, 8)]
    row("uncached time for 8 variants ÷ for 1", f"{once[1] / once[0]:.3f}", "≤ 1.10", f"{once[1]:.0f} ms, {once[0]:.0f} ms; 16 tiles")


def beside_constant(models, *flags):
    """Variants a second of tiles by key, and of a constant body of the same size: medians of turns."""
    pace = [*KEYED, *flags, "--concurrency", "4", "--duration", "6s", "--warmup", "2s", "--seed", "5", *TENSORS]
    with server(models) as served:
        size = load(served.url, *pace)["throughput"]
        bytes_each = round(size["bytes_in_per_s"] / size["requests_per_s"])
        with Program(FLOOR, "constant", "127.0.0.1:0", bytes_each) as constant:
            rounds = [[load(url, *pace)["throughput"]["variants_per_s"] for url in (served.url, constant.url)] for _ in range(3)]
    return [sorted(rate)[1] for rate in zip(*rounds)]


def sizes():
    """The demo model, tiles of several sizes."""
    for side in ("96", "224", "256"):
        for variants, target in (("4", 0.6), ("1", 0.45)):
            ours, constant = beside_constant(DEMO, "--tile-size", side, "--variants", variants)
            what = f"demo model, {side} px, {variants} a tile: cached variants/s ÷ constant body"
            row(what, f"{ours / constant:.3f}", f"≥ {target:.2f}", f"{ours:,.0f} of {constant:,.0f}; medians of 3")


def cached(uncached_rate=None):
    rates = beside_constant(BASE, "--variants", "4")
    row("cached variants/s ÷ constant body", f"{rates[0] / rates[1]:.3f}", "≥ 0.60", f"{rates[0]:,.0f} of {rates[1]:,.0f}; medians of 3")
    if uncached_rate:
        row("cached ÷ uncached variants/s", f"{rates[0] / uncached_rate:,.0f}", "≥ 500", f"{rates[0]:,.0f}, {uncached_rate:.2f} with one variant a tile")


def latency():
    rounds = []
    with server(BASE) as served:
        for _ in range(3):
            alone = bare("fp32", "1")[1][1] * 1e3
            got = load(served.url, "--unique", "--tiles-per-request", "1", "--concurrency", "1", "--requests", "60", "--warmup", "2s", *TENSORS)
            rounds.append((got["latency_ms"]["p50"], alone))
    took, alone = sorted(rounds, key=lambda pair: pair[0] / pair[1])[1]
    said = ", ".join(f"{took:.1f} of {alone:.1f} ms" for took, alone in rounds)
    row("one tile, idle server: latency ÷ encoder", f"{took / alone:.3f}", "≤ 1.05", f"median of {said}")


def overload():
    # A cache that is full within the first seconds: what it holds is configured, and no growth.
    pace = ["--unique", "--tiles-per-request", "1", *TENSORS]
    with server(BASE, "--cache-memory", "16MiB") as served:
        peak = load(served.url, "--concurrency", "8", "--duration", "20s", "--warmup", "3s", *pace)["throughput"]["requests_per_s"]
        url, rate = served.url, f"{4 * peak:.1f}"
        running = subprocess.Popen([str(RESTAIN), "load", url, "--rate", rate, "--duration", "60s", "--warmup", "0s", "--max-outstanding", "2000",
                                    "--json", "runs/overload.json", *pace], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(10)
        early = served.rss_mib()
        most = early
        while running.poll() is None:
            most = max(most, served.rss_mib())
            time.sleep(0.5)
    got = json.loads((ROOT / "runs/overload.json").read_text())
    goodput = got["throughput"]["goodput_per_s"]
    row("open loop at 4 × capacity, 60 s: goodput ÷ peak", f"{goodput / peak:.3f}", "≥ 0.90", f"{goodput:.2f} of {peak:.2f} requests/s")
    row("memory growth after the first 10 s of it", f"{(most / early - 1) * 100:.1f} %", "≤ 5 %", f"{early:.0f} MiB, at most {most:.0f} MiB")


def start():
    with server(DEMO) as served:
        seconds = served.ready_seconds
        load(served.url, "--tiles-per-request", "32", "--concurrency", "4", "--duration", "10s", "--warmup", "1s", "--unique", *TENSORS)
        text = urllib.request.urlopen(f"{served.url}/metrics").read().decode()
        cache = float(re.search(r"^restain_encodings_cache_bytes ([\d.e+]+)", text, re.M)[1]) / 2**20
        resident = served.rss_mib()
    weights = (DEMO / "demo/9/weights.safetensors").stat().st_size / 2**20
    row("ready after start, demo bundle", f"{seconds:.2f} s", "≤ 2 s", "")
    over = resident - 2 * weights - cache
    row("resident over weights × 2 and the cache's contents", f"{over:.0f} MiB", "≤ 300 MB", f"{resident:.0f} - 2 × {weights:.0f} - {cache:.0f}, after 10 s of load")


def everything():
    rate = uncached()
    variants()
    cached(rate)
    sizes()
    uncached("int8")
    int8()
    latency()
    overload()
    start()


if __name__ == "__main__":
    os.environ.setdefault("ORT_DYLIB_PATH", str(ROOT / ".deps/onnxruntime/lib/libonnxruntime.so"))
    FLOOR = floor_program()
    print("| | reached | target | |\n|---|---|---|---|")
    for part in sys.argv[1:] or ["everything"]:
        {"everything": everything, "uncached": uncached, "int8": int8, "variants": variants, "cached": cached, "sizes": sizes,
         "latency": latency, "overload": overload, "start": start}[part]()
