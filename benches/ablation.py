#!/usr/bin/env python3
"""What each part of recipe `cross` is worth: one small model for each row, trained and evaluated alike.

    make train && python3 benches/ablation.py --data fields --exclude a.png,b.png --left-out centre_3 --out runs/ablation

Trains with target/release/restain-train on all images of --data but those of --exclude and of the domain --left-out, and evaluates
on those of --exclude. Prints means over pairs of domains that were trained on, and over pairs that lead to or from the one left
out. What is in --out already is not made again. `--folds` trains the last recipe once for every domain left out.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

# The published loss and the cross-reconstruction terms, each once.
FIRST = ["--consistency-weight", "1", "--match-weight", "0", "--detail-weight", "0", "--border-weight", "0", "--match-target", "color-match"]
MATCH = [*FIRST, "--consistency-weight", "0", "--match-weight", "4"]
TONE = [*MATCH, "--match-target", "tone", "--tone-share", "1.25", "--tone-sigma", "3"]
BOTH = [*TONE, "--detail-weight", "0.1", "--border-weight", "0.2"]
ROWS = {
    "published": ["--recipe", "published"],
    "published, interleaved, first three tokens": ["--recipe", "published", "--pixel-order", "interleaved", "--first-tokens"],
    "cross": FIRST,
    "cross without consistency": [*FIRST, "--consistency-weight", "0"],
    "… + match, colour matching": MATCH,
    "… + match, tone": TONE,
    "… + match, tone, detail": [*TONE, "--detail-weight", "0.1"],
    "… + match, tone, border": [*TONE, "--border-weight", "0.2"],
    "… + match, tone, detail, border (**all**)": BOTH,
    "match, tone, without restain and transfer": [*TONE, "--restain-weight", "0", "--transfer-weight", "0"],
    "match, tone, without invariance": [*TONE, "--invariance-weight", "0"],
    "match, tone, with consistency": [*TONE, "--consistency-weight", "1"],
    "match, tone, with consistency, 4 mixes": [*TONE, "--consistency-weight", "1", "--mixes", "4"],
    "match, tone, with consistency, stop-gradient": [*TONE, "--consistency-weight", "1", "--stop-gradient"],
    "match, tone; stain: tone": [*TONE, "--stains", "tone"],
    "match, tone; stains: color-match, density-jitter, gamma": [*TONE, "--stains", "color-match,density-jitter,gamma"],
    "match, tone; stains: color-match, focus": [*TONE, "--stains", "color-match,focus"],
    "match, tone; style of 4 tokens": [*TONE, "--style-tokens", "4"],
    "match, tone; interleaved": [*TONE, "--pixel-order", "interleaved"],
    "match, tone; rank 4": [*TONE, "--embed-dim", "192"],
}

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=pathlib.Path, required=True)
parser.add_argument("--exclude", required=True)
parser.add_argument("--left-out", required=True)
parser.add_argument("--out", type=pathlib.Path, required=True)
parser.add_argument("--steps", type=int, default=600)
parser.add_argument("--program", default="target/release/restain-train")
parser.add_argument("--folds", action="store_true")
options = parser.parse_args()
# Few rows of a small model: one thread is as fast, and leaves the other cores alone.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def run(words, log):
    with open(log, "w") as file:
        if subprocess.run([options.program, *map(str, words)], stdout=file, stderr=subprocess.STDOUT).returncode != 0:
            sys.exit(f"{' '.join(map(str, words))}\n{pathlib.Path(log).read_text()[-500:]}")


def evaluated(name, left_out, flags):
    """The report of a row, made where it is not there yet."""
    folder = options.out / f"{''.join(c if c.isalnum() else '-' for c in name)}-{left_out}"
    report = folder / "report.json"
    if not report.exists():
        folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        fit = ["fit", "--data", options.data, "--exclude", options.exclude, "--exclude-domains", left_out, "--out", folder / "models/row/1"]
        common = ["--recipe", "cross", "--state", folder / "state", "--device", "cpu", "--precision", "bf16", "--image-size", "64", "--depth", "2", "--mixes", "1"]
        common += ["--batch", "16", "--grad-clip", "1", "--steps", options.steps, "--seed", "3", "--validate-every", "0", "--workers", "1"]
        run([*fit, *once([*common, *flags])], folder / "fit.log")
        evaluate = ["evaluate", "--bundle", folder / "models/row/1", "--data", options.data, "--only", options.exclude]
        run([*evaluate, "--methods", "vit,color-match", "--workers", 1, "--json", report], folder / "evaluate.log")
        print(f"{name}, without {left_out}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return json.loads(report.read_text())


def once(flags):
    """Flags with the last of those given twice."""
    kept = {}
    for word in flags:
        if str(word).startswith("--"):
            name = word
            kept.pop(name, None)
            kept[name] = []
        else:
            kept[name].append(word)
    return [word for name, values in kept.items() for word in (name, *values)]


def figures(report, left_out, method, unseen):
    """Left, SSIM, Dice, taken for target and edges, over pairs with (or without) the domain left out."""
    pairs = [p for p in report["pairs"] if (left_out in (p["from"], p["to"])) == unseen]
    before = sum(p["distance_before"] for p in pairs)
    mean = lambda value: sum(value(p[method]) for p in pairs) / len(pairs)
    left = sum(p[method]["distance"] for p in pairs) / before
    return [left, mean(lambda s: s["ssim"]), mean(lambda s: s["dice"]), mean(lambda s: s["taken_for"]["target"])]


def line(name, report, left_out, method="vit"):
    cells = []
    for unseen in (False, True):
        left, ssim, dice, taken = figures(report, left_out, method, unseen)
        cells += [f"{left:.3f}", f"{ssim:.3f}", f"{dice:.3f}", f"{100 * taken:.0f} %"]
    edges = sum(domain["variants"][method] for domain in report["block_edges"]) / len(report["block_edges"])
    psnr = sum(domain["psnr_db"] for domain in report["reconstruction"]) / len(report["reconstruction"])
    return f"| {name} | " + " | ".join([*cells, f"{edges:.2f}", "" if method == "color_match" else f"{psnr:.1f}"]) + " |"


HEAD = ["", "left", "SSIM", "Dice", "taken for target", "left, unseen", "SSIM", "Dice", "taken for target", "edges", "PSNR, dB"]
print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
if options.folds:
    domains = sorted(entry.name for entry in options.data.iterdir() if entry.is_dir())
    for domain in domains:
        report = evaluated("fold", domain, BOTH)
        print(line(f"without {domain}", report, domain), line("colour matching", report, domain, "color_match"), sep="\n", flush=True)
else:
    for name, flags in ROWS.items():
        report = evaluated(name, options.left_out, flags)
        print(line(name, report, options.left_out), flush=True)
    print(line("colour matching", report, options.left_out, "color_match"))
