#!/usr/bin/env python3
"""Several real servers as replicas of one: what it costs to ask the wrong one, and what a dead one costs.

    python3 benches/scale.py                  all of it, some minutes
    python3 benches/scale.py cost fault       some of it
    python3 benches/scale.py balance          how evenly tiles lie; no server, seconds

Needs target/release/restain, the package of clients/python, the demo model, and HAProxy (Debian's). The servers share the machine,
so that four are no faster than one: what is measured is encodings made per tile asked, which is what a fleet pays for. The
cache of each replica has room for two fifths of the tiles. All tiles are asked once an epoch, each time in another order, by four
clients that know nothing of each other.

*round robin*: HAProxy in turn, as a Service does. *shards*: HAProxy with deploy/haproxy/haproxy.cfg, by the header that the client sends.
*rendezvous*: no proxy; the client knows the replicas.
"""

import argparse
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "clients/python/src"))

import numpy as np  # noqa: E402
import restain  # noqa: E402
from restain.rendezvous import owners, shards  # noqa: E402

HAPROXY = shutil.which("haproxy") or "/usr/sbin/haproxy"
MODES = ["round robin", "shards", "rendezvous"]
CALLERS, BATCH = 4, 20
ENCODING = 110_848  # bytes in the cache for a tile of the demo model, its place in the tables included


class Replica:
    def __init__(self, options, cache):
        self.command = [options.program, "serve", "--models", options.models, "--grpc", "127.0.0.1:0", "--log", "error", "--threads", "1",
                        "--cache-memory", str(cache), "--http"]
        self.address = "127.0.0.1:0"
        self.start()

    def start(self):
        self.process = subprocess.Popen([*self.command, self.address], stdout=subprocess.PIPE, text=True)
        self.address = re.search(r"http://([^ \n]+)", self.process.stdout.readline())[1]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def encoded(self):
        """Tiles through its encoder since it began; none when it is not there."""
        try:
            text = urllib.request.urlopen(f"http://{self.address}/metrics", timeout=20).read().decode()
        except OSError:
            return 0
        return sum(float(value) for value in re.findall(r"^restain_batch_tiles_sum(?:{.*})? ([\d.e+]+)$", text, re.M))


class Proxy:
    """HAProxy with the committed file, these replicas in place of those in a cluster."""

    def __init__(self, replicas, is_hashing, folder):
        text = (ROOT / "deploy/haproxy/haproxy.cfg").read_text()
        text = text[: text.index("\nfrontend grpc")] + text[text.index("\nbackend http") : text.index("\nbackend grpc")]
        servers = "\n".join(f"    server replica{n} {replica.address} check" for n, replica in enumerate(replicas, 1))
        text = re.sub(r"^    server-template .*$", servers, text, flags=re.M)
        if not is_hashing:
            text = re.sub(r"^    balance .*$", "    balance roundrobin", text, flags=re.M)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            file = pathlib.Path(folder) / "haproxy.cfg"
            file.write_text(text.replace("bind :8080", f"bind fd@{listening.fileno()}"))
            self.process = subprocess.Popen([HAPROXY, "-db", "-f", str(file)], pass_fds=[listening.fileno()], stderr=subprocess.DEVNULL)
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"

    def close(self):
        self.process.terminate()
        self.process.wait()


class Fleet:
    """Replicas, and clients that reach them in one of the modes."""

    def __init__(self, mode, count, options):
        self.folder = tempfile.TemporaryDirectory()
        self.tiles = np.random.default_rng(1).integers(180, 240, (options.tiles, 96, 96, 3), np.uint8)
        cache = int(options.tiles * options.room * ENCODING)
        self.replicas = [Replica(options, cache) for _ in range(count)]
        self.proxy = None if mode == "rendezvous" else Proxy(self.replicas, mode == "shards", self.folder.name)
        urls = self.proxy.url if self.proxy else [f"http://{replica.address}" for replica in self.replicas]
        spread = {"spread": "gateway", "shards": options.shards} if mode == "shards" else {}
        self.clients = [restain.Client(urls, timeout=120, **spread) for _ in range(CALLERS)]
        self.failed, self.calls = 0, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()
        if self.proxy:
            self.proxy.close()
        for replica in self.replicas:
            replica.kill()
        self.folder.cleanup()

    def encoded(self):
        return np.array([replica.encoded() for replica in self.replicas])

    def epoch(self, number, midway=lambda: None):
        """All tiles once, `midway` when half of them are asked. Seconds of the longest call."""
        order = np.random.default_rng(number).permutation(len(self.tiles))
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        took, lock = [], threading.Lock()

        def work(client):
            while True:
                with lock:
                    if not batches:
                        return
                    places = batches.pop()
                began = time.monotonic()
                try:
                    client.augment(self.tiles[places], seed=number)
                except restain.RestainError as error:
                    self.failed += 1
                    print(f"  failed: {type(error).__name__} {error}", flush=True)
                took.append(time.monotonic() - began)

        callers = [threading.Thread(target=work, args=(client,)) for client in self.clients]
        half = len(batches) // 2
        for caller in callers:
            caller.start()
        while len(batches) > half:
            time.sleep(0.001)
        midway()
        for caller in callers:
            caller.join()
        self.calls += len(took)
        return max(took)


def cost(options):
    """Encodings per tile asked, once every tile was asked: mean of the epochs after the first."""
    print(f"\n{options.tiles} tiles, room for {options.room:g} of them in each replica, {options.epochs} epochs after the first")
    print("| replicas | room for | " + " | ".join(f"{mode}: encodings per tile asked, hit rate" for mode in MODES) + " |")
    print("|---|---|" + "---|" * len(MODES))
    for count in range(1, options.replicas + 1):
        cells = []
        for mode in MODES:
            with Fleet(mode, count, options) as fleet:
                fleet.epoch(0)
                before = fleet.encoded()
                for number in range(1, options.epochs + 1):
                    fleet.epoch(number)
                made = (fleet.encoded() - before).sum() / (options.epochs * options.tiles)
                cells.append(f"{made:.2f}, {max(0, 1 - made):.0%}" + (f", {fleet.failed} FAILED" if fleet.failed else ""))
        print(f"| {count} | {count * options.room:.0%} | " + " | ".join(cells) + " |", flush=True)


def fault(options):
    """One replica killed under load, and back under load: seconds of it in one line each."""
    for mode in MODES[1:]:
        with Fleet(mode, options.replicas, options) as fleet:
            lost = fleet.replicas[1]
            events = {3: ("killed", lost.kill), 6: ("back", lost.start)}
            print(f"\n{mode}, {options.replicas} replicas\n| after | | calls | hit rate | longest call |\n|---|---|---|---|---|")
            fleet.epoch(0)
            began = time.monotonic()
            for number in range(1, 12):
                what, act = events.get(number, ("", None))
                before, calls, at = fleet.encoded(), fleet.calls, time.monotonic()
                counted, longest, passes = [], 0.0, 0

                def midway(act=act, counted=counted):
                    # What a replica counted goes with it.
                    counted.append(lost.encoded())
                    act()

                while time.monotonic() - at < options.period or (act and not counted):
                    is_time = act and not counted and time.monotonic() - at > options.period / 2
                    longest = max(longest, fleet.epoch(100 * number + passes, midway if is_time else lambda: None))
                    passes += 1
                after = fleet.encoded()
                if what == "killed":
                    after[1] = counted[0]
                if what == "back":
                    before[1] = 0
                rate = 1 - (after - before).sum() / (passes * options.tiles)
                line = f"{time.monotonic() - began:.0f} s | {what} | {fleet.calls - calls} | {rate:.1%} | {longest * 1e3:.0f} ms"
                print(f"| {line} |", flush=True)
            print(f"\n{fleet.calls} calls of {BATCH} tiles, {fleet.failed} failed", flush=True)


def balance(options):
    """The fullest replica ÷ the mean, of a million tiles; the median of several fleets."""
    keys = np.random.default_rng(0).integers(0, 256, (1_000_000, 32), np.uint8)
    words = keys[:, :8].copy().view("<u8")[:, 0]
    hashed = [bytes(key) for key in keys]

    def fullest(places, count):
        return np.bincount(places, minlength=count).max() * count / len(places)

    def ring(generator, count, points):
        spots = np.sort(generator.integers(0, 1 << 64, count * points, np.uint64))
        whose = generator.permutation(np.repeat(np.arange(count), points))
        return whose[np.searchsorted(spots, words) % len(spots)]

    def of_shards(generator, count, number):
        home = generator.integers(0, count, number)
        return home[shards(hashed, number)]

    def rendezvous(generator, count):
        name = generator.integers(1 << 30)
        return owners(hashed, [f"http://{name}.{n}:8080" for n in range(count)])

    kinds = {"rendezvous": rendezvous}
    kinds |= {f"ring, {points} points each": lambda g, n, points=points: ring(g, n, points) for points in (16, 100, 1000)}
    kinds |= {f"{number} shards": lambda g, n, number=number: of_shards(g, n, number) for number in (32, 128, 1024)}
    fleets = [4, 10, 100, 1000]
    print("| | " + " | ".join(f"{count} replicas" for count in fleets) + " |\n|---|" + "---|" * len(fleets))
    for kind, place in kinds.items():
        generator = np.random.default_rng(7)
        cells = []
        for count in fleets:
            turns = 3 if count > 10 else 9
            cells.append(f"{np.median([fullest(place(generator, count), count) for _ in range(turns)]):.2f}")
        print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["cost", "fault", "balance"], default=["cost", "fault", "balance"])
    parser.add_argument("--program", default=str(ROOT / "target/release/restain"))
    parser.add_argument("--models", default=str(ROOT / "models"))
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--tiles", type=int, default=400)
    parser.add_argument("--room", type=float, default=0.4, help="share of the tiles that each replica has room for")
    parser.add_argument("--shards", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3, help="of `cost`, after the first")
    parser.add_argument("--period", type=float, default=3, help="seconds of a line of `fault`")
    options = parser.parse_args()
    os.environ.setdefault("ORT_DYLIB_PATH", str(ROOT / ".deps/onnxruntime/lib/libonnxruntime.so"))
    for part in options.parts:
        {"cost": cost, "fault": fault, "balance": balance}[part](options)


if __name__ == "__main__":
    main()
