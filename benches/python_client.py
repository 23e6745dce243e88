#!/usr/bin/env python3
"""The Python client through a DataLoader, against the load generator with the same requests.

    python3 benches/python_client.py [target/release/restain]

Needs the server's program, the package of clients/python with torch, and a bundle (the demo model, unless `--models`). Nothing
else may run on the machine, which generator or loader share with the server. In turns, since the speed of a shared machine
drifts; each line is the median of its turns. *unique*: every tile is new, and the encoder decides. *key*: tiles that were
sent before, which costs the server a product and both clients their own work. *bare*: a DataLoader of the same workers and
batches of the same size with nothing in them and no server, beside *key*: the most that a DataLoader hands over here.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "clients/python/src"))

import numpy as np  # noqa: E402
import restain  # noqa: E402
from restain.torch import RestainDataset  # noqa: E402
import torch  # noqa: E402
from torch.utils.data import DataLoader, Dataset, IterableDataset  # noqa: E402

TILES = 32
DISTINCT = 128


class Drawn(Dataset):
    """Tiles of noise: the same `DISTINCT` again and again, or each another."""

    def __init__(self, side, count, is_unique, salt):
        self.noise = np.random.default_rng(salt).integers(180, 240, (DISTINCT, side, side, 3), np.uint8)
        self.count, self.is_unique, self.salt = count, is_unique, salt

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        tile = self.noise[index % DISTINCT]
        if self.is_unique:
            tile = tile.copy()
            tile.reshape(-1)[:8] = np.array([index * 1000 + self.salt], "<u8").view(np.uint8)
        return tile, index


class Bare(IterableDataset):
    """Batches of the size of the real ones, and their labels."""

    def __init__(self, side, options):
        self.count, self.side = TILES * (options.variants + (not options.variants_only)), side

    def __iter__(self):
        while True:
            yield torch.zeros((self.count, self.side, self.side, 3), dtype=torch.uint8), torch.zeros(self.count)


def bare(side, seconds, options):
    """Tiles a second."""
    return timed(iter(DataLoader(Bare(side, options), batch_size=None, num_workers=options.workers)), 8, seconds)


def timed(arriving, warm, seconds):
    for _ in range(warm):
        next(arriving)
    started, count = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        next(arriving)
        count += TILES
    return count / (time.monotonic() - started)


def loader(client, side, is_unique, seconds, options, salt):
    """Tiles a second, once all workers are at work."""
    drawn = Drawn(side, 1 << 22, is_unique, salt)
    batches = RestainDataset(
        drawn, client, batch_size=TILES, variants=options.variants, originals=not options.variants_only, shuffle=False,
        seed=salt, in_flight=options.in_flight)
    arriving = iter(DataLoader(batches, batch_size=None, num_workers=options.workers))
    # Everything is sent once, and nothing is counted that was made before the clock ran.
    warm = 0 if is_unique else DISTINCT // TILES
    return timed(arriving, max(warm, 2 * options.workers) + options.workers * (options.in_flight + 2), seconds)


def generator(program, url, is_unique, seconds, options):
    kind = ["--unique"] if is_unique else ["--send", "key", "--distinct", str(DISTINCT)]
    command = [program, "load", url, *kind, "--tiles-per-request", str(TILES), "--variants", str(options.variants),
               "--concurrency", str(max(1, options.workers) * options.in_flight), "--duration", f"{seconds}s", "--warmup", "2s",
               "--body-format", "safetensors", "--accept", "safetensors", "--json", "-"]
    text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True).stdout
    return json.loads(text[text.index("{"):])["throughput"]["tiles_per_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?", default=str(ROOT / "target/release/restain"))
    parser.add_argument("--models", default=str(ROOT / "models"))
    parser.add_argument("--kinds", nargs="+", choices=["unique", "key"], default=["unique", "key"])
    parser.add_argument("--variants", type=int, default=1)
    parser.add_argument("--variants-only", action="store_true", help="leave the originals out of the batches")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--in-flight", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()

    os.environ.setdefault("ORT_DYLIB_PATH", str(ROOT / ".deps/onnxruntime/lib/libonnxruntime.so"))
    command = [options.program, "serve", "--models", options.models, "--http", "127.0.0.1:0", "--log", "error"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = re.search(r"http://[^ \n]+", server.stdout.readline())[0]
        client = restain.Client(url, timeout=300)
        side = client.models()[0].geometry["image_size"]
        print("| | DataLoader ÷ restain load | target | tiles/s, in turns |\n|---|---|---|---|")
        for kind in options.kinds:
            is_unique = kind == "unique"
            turns, floor = [], []
            for turn in range(options.turns):
                reached = loader(client, side, is_unique, options.seconds, options, turn if is_unique else 0)
                turns.append((reached, generator(options.program, url, is_unique, options.seconds, options)))
                floor.append(0 if is_unique else bare(side, options.seconds, options))
            ratio = sorted(reached / compared for reached, compared in turns)[len(turns) // 2]
            said = ", ".join(f"{reached:,.0f} of {compared:,.0f}" for reached, compared in turns)
            alone = "" if is_unique else f"; bare {sorted(floor)[len(floor) // 2]:,.0f}"
            print(f"| {kind} | {ratio:.3f} | ≥ 0.9 | {said}{alone} |", flush=True)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


if __name__ == "__main__":
    main()
