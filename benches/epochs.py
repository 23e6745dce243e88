#!/usr/bin/env python3
"""Epochs of a DataLoader with one variant of each tile: the first and the later ones of a server, beside augmentation in process.

    .deps/python/bin/python benches/epochs.py [target/release/restain]

Needs the server's program, the environment of the Python tests, and a bundle (the demo model, unless `--models`). Nothing else
may run on the machine, which server and loader share. Every way reads the same tiles from memory and yields batches of as many
variants, uint8; none of them reads or decodes files. *as it is*: a DataLoader that only stacks the tiles, the most that one
hands over here. *first*: tiles that the server has not seen, which are sent and encoded. *later*: the same again, by key.
Colour matching draws the mean and deviation of each channel from those of another tile. Ways take turns, since the speed of a
shared machine drifts; each figure is the median of its turns.

After so many epochs a training job has lost no time: the extra time of the first ÷ the time that each later one saves.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "clients/python/src"))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import restain  # noqa: E402
import torch  # noqa: E402
from restain.torch import RestainDataset  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

BATCH = 32
WAYS = ["as it is", "colour matching", "ColorJitter"]


class Tiles(Dataset):
    """Tiles of noise, uint8 [side, side, 3], changed by a function of the tile."""

    def __init__(self, side, count, salt, change=None):
        self.tiles = np.random.default_rng(salt).integers(180, 240, (count, side, side, 3), np.uint8)
        self.change = change

    def __len__(self):
        return len(self.tiles)

    def __getitem__(self, index):
        tile = self.tiles[index]
        return (self.change(tile) if self.change else tile), 0


class Match:
    """The mean and deviation of each channel become those of another tile."""

    def __init__(self, tiles):
        self.stats = [cv2.meanStdDev(tile) for tile in tiles]

    def __call__(self, tile):
        mean, deviation = cv2.meanStdDev(tile)
        to_mean, to_deviation = self.stats[np.random.randint(len(self.stats))]
        scale = to_deviation / np.maximum(deviation, 1e-6)
        offset = to_mean - mean * scale
        table = np.clip(np.arange(256)[:, None] * scale[:, 0] + offset[:, 0], 0, 255).astype(np.uint8)
        return cv2.LUT(tile, table[None])


class Jitter:
    def __init__(self):
        self.jitter = v2.ColorJitter(0.4, 0.4, 0.4, 0.1)

    def __call__(self, tile):
        return self.jitter(torch.from_numpy(tile).permute(2, 0, 1))


def epochs(loader, times, tiles):
    """Tiles a second of each epoch; its workers start before the clock."""
    rates = []
    for _ in range(times):
        arriving, seen = iter(loader), 0
        started = time.monotonic()
        for batch, _ in arriving:
            seen += len(batch)
        rates.append(seen / (time.monotonic() - started))
        assert seen == tiles, f"{seen} of {tiles}"
    return rates


def in_process(way, side, workers, options):
    tiles = Tiles(side, options.tiles, 1)
    tiles.change = {"as it is": None, "colour matching": Match(tiles.tiles[:64]), "ColorJitter": Jitter()}[way]
    loader = DataLoader(tiles, BATCH, num_workers=workers, persistent_workers=workers > 0)
    return statistics.median(epochs(loader, 1 + options.epochs, options.tiles)[1:])


def served(client, side, workers, salt, options):
    """Of the first epoch, and of the later ones."""
    drawn = Tiles(side, options.tiles, salt)
    batches = RestainDataset(drawn, client, batch_size=BATCH, variants=1, originals=False, seed=salt, in_flight=2)
    loader = DataLoader(batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0)
    first, *later = epochs(loader, 1 + options.epochs, options.tiles)
    return first, statistics.median(later)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?", default=str(ROOT / "target/release/restain"))
    parser.add_argument("--models", default=str(ROOT / "models"))
    parser.add_argument("--tiles", type=int, default=2048, help="of an epoch")
    parser.add_argument("--epochs", type=int, default=5, help="later ones, of each way and turn")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2, 4])
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()

    os.environ.setdefault("ORT_DYLIB_PATH", str(ROOT / ".deps/onnxruntime/lib/libonnxruntime.so"))
    command = [options.program, "serve", "--models", options.models, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--log", "error"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = re.search(r"http://[^ \n]+", server.stdout.readline())[0]
        client = restain.Client(url, timeout=300)
        side = client.models()[0].geometry["image_size"]
        print(f"{options.tiles} tiles of {side} px an epoch, batches of {BATCH}; tiles/s")
        print("| workers | as it is | colour matching | ColorJitter | first | later | later ÷ as it is | epochs until even with colour matching, ColorJitter |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
        for workers in options.workers:
            rates = {way: [] for way in [*WAYS, "first", "later"]}
            for turn in range(options.turns):
                for way in WAYS:
                    rates[way].append(in_process(way, side, workers, options))
                first, later = served(client, side, workers, 1000 * workers + turn + 2, options)
                rates["first"].append(first)
                rates["later"].append(later)
            rate = {way: statistics.median(turns) for way, turns in rates.items()}
            share = rate["later"] / rate["as it is"]
            even = ", ".join(until_even(rate["first"], rate["later"], rate[way]) for way in WAYS[1:])
            print(f"| {workers} | {' | '.join(f'{rate[way]:,.0f}' for way in rates)} | {share:.2f} | {even} |", flush=True)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def until_even(first, later, other):
    saved = 1 / other - 1 / later
    return f"{(1 / first - 1 / other) / saved + 1:,.0f}" if saved > 0 else "never"


if __name__ == "__main__":
    main()
