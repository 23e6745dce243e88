#!/usr/bin/env python3
"""Do the losses of `restain-train fit` on a device follow those on the CPU? `benches/gpu.sh` runs it.

    benches/curves.py --restain-train PATH --device cuda --precisions f32,bf16

Twenty steps from the same weights on the same phantom tiles with the same draws, on the CPU in f32 and on the device. Prints every term's largest
difference, relative to the CPU's largest value of it, and fails where one is beyond the tolerance: 1e-3 for f32, 5e-2 for bf16, whose products
carry eight bits.
"""

import argparse
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

parser = argparse.ArgumentParser()
parser.add_argument("--restain-train", required=True)
parser.add_argument("--device", default="cuda")
parser.add_argument("--precisions", default="f32,bf16", help="of the device, with commas")
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--recipe", default="cross")
parser.add_argument("--json", type=pathlib.Path, help="a file for the figures")
options = parser.parse_args()
TOLERANCES = {"f32": 1e-3, "bf16": 5e-2}


def fields(message):
    """The fields of a protobuf message, as (number, value)."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        length = {1: 8, 5: 4}.get(key & 7) or varint()
        yield key >> 3, message[at : at + length]
        at += length


def scalars(path):
    """{tag: {step: value}} of an event file of TensorBoard: records of Event{step = 2, summary = 5}."""
    found, data, at = {}, path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = dict(fields(data[at + 12 : at + 12 + length]))
        at += 12 + length + 4
        for number, value in fields(event.get(5, b"")):
            inner = dict(fields(value)) if number == 1 else {}
            if 2 in inner:
                found.setdefault(inner[1].decode(), {})[event.get(2, 0)] = struct.unpack("<f", inner[2])[0]
    return found


def curve(folder, name, device, precision):
    command = [options.restain_train, "fit", "--data", f"{folder}/tiles", "--out", f"{folder}/models/{name}/1", "--state", f"{folder}/{name}"]
    command += ["--preset", "small", "--recipe", options.recipe, "--mixes", "1", "--steps", str(options.steps), "--batch", str(options.batch)]
    command += ["--device", device, "--precision", precision, "--seed", "3", "--scalars-every", "1", "--validation-share", "0", "--workers", "1"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (events,) = pathlib.Path(folder, name, "tensorboard").iterdir()
    return {tag: values for tag, values in scalars(events).items() if tag.startswith("loss")}


def compare(reference, found):
    """Every term's largest difference over the steps, ÷ the largest value of the reference."""
    assert reference and reference.keys() == found.keys(), f"{sorted(reference)} and {sorted(found)}"
    worst = {}
    for tag, values in reference.items():
        assert len(values) == options.steps and values.keys() == found[tag].keys(), f"{tag}: {len(values)} steps"
        scale = max(abs(value) for value in values.values())
        worst[tag] = max(abs(found[tag][step] - value) for step, value in values.items()) / max(scale, 1e-9)
    return worst


figures, beyond = {"device": options.device}, []
with tempfile.TemporaryDirectory() as folder:
    subprocess.run([options.restain_train, "phantom", "--out", f"{folder}/tiles", "--hospitals", "3", "--tiles-per-domain", "24"], check=True, stdout=subprocess.DEVNULL)
    figures["reference"] = reference = curve(folder, "reference", "cpu", "f32")
    for precision in options.precisions.split(","):
        found, tolerance = curve(folder, precision, options.device, precision), TOLERANCES[precision]
        worst = compare(reference, found)
        figures[precision] = {"worst": worst, "tolerance": tolerance, "curves": found}
        for tag, apart in worst.items():
            print(f"{tag:28} {apart:.1e}")
        print(f"{options.device} {precision} against cpu f32, {options.steps} steps: largest difference {max(worst.values()):.1e}, tolerance {tolerance:.0e}", flush=True)
        beyond += [f"{tag} in {precision}" for tag, apart in worst.items() if not apart <= tolerance]
if options.json:
    options.json.write_text(json.dumps(figures))
sys.exit(f"beyond the tolerance: {', '.join(beyond)}" if beyond else 0)
