#!/usr/bin/env python3
"""Runs of `restain-train evaluate --downstream` on several training domains, pooled: means, and paired differences with p-values.

    python3 benches/pooled.py --method vit-spread s360.json tupac-b.json xr.json

A pair is one training domain and one seed, whose methods share weights, order and tiles; a run's figure is its mean balanced
accuracy over the test domains, and its worst is that of the worse of them. p is that of random flips of the signs of the
differences, of both sides, corrected by Holm's method for the number of methods that --method is compared with.
"""

import argparse
import json
from pathlib import Path

import numpy as np

FLIPS = 1 << 20


def runs(path):
    """Figures by method and seed: mean and worst balanced accuracy in per cent."""
    found = {}
    for run in json.loads(path.read_text())["runs"]:
        accuracies = [100 * test["balanced_accuracy"] for test in run["tests"]]
        found[run["method"], run["seed"]] = np.mean(accuracies), min(accuracies)
    return found


def flipped(differences):
    """Two-sided p of the mean under random signs: exact up to 20 pairs, and of a million draws beyond."""
    count = len(differences)
    if count <= 20:
        signs = 1 - 2 * (np.arange(1 << count)[:, None] >> np.arange(count) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1, 1], (FLIPS, count))
    return np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9)


def corrected(values):
    """Holm's method."""
    order, out, least = np.argsort(values), np.empty(len(values)), 0
    for rank, place in enumerate(order):
        least = max(least, min(1, values[place] * (len(values) - rank)))
        out[place] = least
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="vit-spread", help="what every other method is compared with")
    parser.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args()
    of_file = [runs(path) for path in options.files]
    methods = list(dict.fromkeys(method for found in of_file for method, _ in found))
    seeds = [sorted({seed for method, seed in found if all((other, seed) in found for other in methods)}) for found in of_file]
    pairs = [(found, seed) for found, common in zip(of_file, seeds) for seed in common]
    table = {method: np.array([found[method, seed] for found, seed in pairs]) for method in methods}
    others = [method for method in methods if method != options.method]
    differences = {method: (table[options.method] - table[method])[:, 0] for method in others}
    raw = [flipped(differences[method]) for method in others]
    ps = dict(zip(others, zip(raw, corrected(np.array(raw)))))
    print(f"{len(pairs)} pairs: {', '.join(f'{path.stem} {len(common)}' for path, common in zip(options.files, seeds))}")
    names = [path.stem for path in options.files]
    print(f"| method | {' | '.join(names)} | mean | worst | {options.method} − it | p | p, corrected |\n|{'---|' * (len(names) + 6)}")
    for method in methods:
        cells, at = [], 0
        for common in seeds:
            cells.append(f"{table[method][at : at + len(common), 0].mean():.1f}")
            at += len(common)
        mean, worst = table[method].mean(0)
        if method == options.method:
            rest = "– | – | –"
        else:
            gain = differences[method]
            rest = f"{gain.mean():+.1f} ± {gain.std(ddof=1):.1f} | {ps[method][0]:.4f} | {ps[method][1]:.4f}"
        print(f"| {method} | {' | '.join(cells)} | {mean:.1f} | {worst:.1f} | {rest} |")


if __name__ == "__main__":
    main()
