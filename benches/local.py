#!/usr/bin/env python3
"""`restain.local` against the HTTP client and a server, with the same requests.

    python benches/local.py [--threads 2] [--turns 5] [--seconds 5]

Run it in an environment with the wheels of restain and restain-server (`make wheels`). Server and model run the demo model with
the same number of threads, on the same machine as their callers, in alternating turns, since the speed of a shared machine
drifts. *new*: every tile is new, and the encoder decides. *cached*: tiles whose encodings are cached; what remains is the
product, and the way of the bytes. `callers` threads call at once.
"""

import argparse
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import restain
from restain.local import Model

TILES = 32


def throughput(client, callers, seconds, variants, is_new, salt):
    """Tiles a second over all callers."""
    noise = np.random.default_rng(0).integers(0, 60, (TILES, 96, 96, 3), np.uint8) + np.array([160, 120, 160], np.uint8)

    def call(caller):
        mine, count = noise.copy(), 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if is_new:
                mine.reshape(TILES, -1)[:, :8] = np.array([salt, caller, count // TILES % 256, count // TILES // 256, 0, 0, 0, 0], np.uint8)
            client.augment(mine, variants=variants, seed=7)
            count += TILES
        return count

    client.augment(noise, variants=variants, seed=7)
    started = time.monotonic()
    with ThreadPoolExecutor(callers) as pool:
        return sum(pool.map(call, range(callers))) / (time.monotonic() - started)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"threads": 2, "turns": 5, "seconds": 5, "variants": 4}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--tiles", nargs="+", choices=["new", "cached"], default=["new", "cached"])
    options = parser.parse_args()

    program = Path(sys.executable).parent / "restain"
    command = [program, "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--log", "error", "--threads", str(options.threads)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        served = restain.Client(re.search(r"http://[^ \n]+", server.stdout.readline())[0], timeout=300)
        local = Model("demo", threads=options.threads)
        print("| tiles | callers | restain.local ÷ HTTP | tiles/s, in turns |\n|---|---|---|---|")
        for tiles in options.tiles:
            for callers in options.callers:
                turns = []
                for turn in range(options.turns):
                    # Both encode the same tiles, and none that one of them has seen.
                    salt = 10 * callers + turn
                    turns.append([throughput(client, callers, options.seconds, options.variants, tiles == "new", salt) for client in (local, served)])
                ratio = sorted(here / there for here, there in turns)[len(turns) // 2]
                said = ", ".join(f"{here:,.0f} of {there:,.0f}" for here, there in turns)
                print(f"| {tiles} | {callers} | {ratio:.2f} | {said} |", flush=True)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


if __name__ == "__main__":
    main()
