"""Measures at which scale a model should see large tiles: `restain serve --window`.

Tiles of several sizes are cut from fields, with the same known change of stain and scanner on all: stain matrices from
the literature, densities, white and gamma drawn. The variant of a tile, made in windows at each scale with the style of
16 tiles of the changed field, is compared with the changed tile itself. "patch" changes from the characteristics of
each patch, "tile" from the mean of the tile's tissue, "slide" from that of 16 tiles of the field as it was.

    pip install numpy pillow onnxruntime
    python3 benches/windows.py --bundle models/demo/9 FIELD...
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

SIZES, SCALES = (384, 512, 1024, 2048), (8, 6, 4, 3, 2)
STYLE_TILES, CHANGES = 16, 3
STAINS = [  # Haematoxylin and eosin, R, G, B densities: Ruifrok and Johnston 2001; Macenko et al. 2009.
    [[0.65, 0.704, 0.286], [0.072, 0.99, 0.105]],
    [[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]],
]
WHITE = np.array([0.95, 0.93, 0.95])


class Model:
    """A bundle's encoder and its product."""

    def __init__(self, bundle):
        manifest = json.loads((bundle / "bundle.json").read_text())
        geometry = manifest["geometry"]
        self.side, self.patch = geometry["image_size"], geometry["patch_size"]
        self.rank = geometry["embed_dim"] // 2 // (3 * self.patch)
        self.planar = manifest["pixel_order"] == "planar"
        self.std = np.array(manifest["normalisation"]["std"]) * 255
        self.encoder = onnxruntime.InferenceSession(str(bundle / manifest["encoders"]["fp32"]))
        self.input = self.encoder.get_inputs()[0].name

    def encode(self, tiles):
        """Returns anatomy and characteristics [n, N, h] of tiles [n, side, side, 3]."""
        runs = [self.encoder.run(["anatomy", "characteristics"], {self.input: tiles[i : i + 8]}) for i in range(0, len(tiles), 8)]
        return (np.concatenate(half).astype(np.float32) for half in zip(*runs, strict=True))

    def change(self, anatomy, style):
        """Returns what a difference of styles [N or 1, h] changes, in levels: [side, side, 3]."""
        patch, grid = self.patch, self.side // self.patch
        values = anatomy.reshape(-1, 3, patch, self.rank) @ style.reshape(-1, 3, self.rank, patch)
        values = values.transpose(0, 2, 3, 1) if self.planar else values.reshape(-1, patch, patch, 3)
        whole = values.reshape(grid, grid, patch, patch, 3).transpose(0, 2, 1, 3, 4)
        return whole.reshape(self.side, self.side, 3) * self.std


def known_change(rng):
    """Draws a change of stain and scanner; returns it as a function of a picture."""

    def matrix(pair):
        pair = np.array(pair) / np.linalg.norm(pair, axis=1, keepdims=True)
        third = np.cross(*pair)
        return np.vstack([pair, third / np.linalg.norm(third)])

    here, there = matrix([[0.58, 0.75, 0.33], [0.2, 0.93, 0.3]]), matrix(STAINS[rng.integers(2)])
    amounts = np.exp([rng.uniform(-0.4, 0.6), rng.uniform(-0.8, 0.6), np.log(0.7)])
    mix = np.linalg.inv(here) @ np.diag(amounts) @ there
    warmth, bright = rng.uniform(-0.06, 0.06), rng.uniform(0.87, 0.97)
    white = np.clip([bright + warmth, bright, bright - warmth], 0.82, 1)
    gamma = np.exp(rng.uniform(-0.3, 0.3))

    def apply(picture):
        density = np.maximum(-np.log(np.clip(picture / 255, 1 / 255, 1) / WHITE), 0) @ mix
        return np.clip(255 * (white * np.exp(-density)) ** gamma, 0, 255).round().astype(np.uint8)

    return apply


def resized(picture, width, height):
    shrunk = Image.fromarray(picture)
    whole = shrunk.width % width == 0 and shrunk.height % height == 0
    return np.asarray(shrunk.resize((width, height), Image.Resampling.BOX if whole else Image.Resampling.BILINEAR))


def axis(length, side):
    """Returns where windows start along an axis, and their weights [windows, length]."""
    overlap = side // 4
    count = -(-(length - overlap) // (side - overlap))
    starts = [round(n * (length - side) / max(count - 1, 1)) for n in range(count)]
    weights = np.zeros((count, length))
    place = np.arange(side)
    for weight, start in zip(weights, starts, strict=True):
        weight[start : start + side] = np.minimum(np.minimum(place + 1, side - place), overlap)
    return starts, weights / weights.sum(0)


def cut(model, tile, scale):
    """Sees a tile `scale` times smaller. Returns its canvas, the windows' places and weights, and their pixels."""
    side, (height, width) = model.side, tile.shape[:2]
    canvas = resized(tile, max(side, round(width / scale)), max(side, round(height / scale)))
    rows, columns = axis(canvas.shape[0], side), axis(canvas.shape[1], side)
    windows = [canvas[y : y + side, x : x + side] for y in rows[0] for x in columns[0]]
    return canvas, rows, columns, np.stack(windows)


def change_of(model, tile, scale, style, own=None):
    """Returns the canvas of a tile, what the style changes there, and the number of windows."""
    side = model.side
    canvas, (rows, down), (columns, across), windows = cut(model, tile, scale)
    places = [(j, i) for j in range(len(rows)) for i in range(len(columns))]
    change = np.zeros(canvas.shape)
    for (j, i), anatomy, characteristics in zip(places, *model.encode(windows), strict=True):
        y, x = slice(rows[j], rows[j] + side), slice(columns[i], columns[i] + side)
        of_window = model.change(anatomy, style - (characteristics if own is None else own))
        change[y, x] += of_window * (down[j, y, None] * across[i, x])[..., None]
    return canvas, change, len(places)


def scaled(values, width, height, way=Image.Resampling.BILINEAR):
    """Resamples numbers [H, W, C] to a width and height."""
    channels = [Image.fromarray(values[..., c].astype(np.float32)).resize((width, height), way) for c in range(values.shape[2])]
    return np.stack([np.asarray(channel) for channel in channels], -1)


def variant(model, tile, scale, style, own):
    """Returns the variant of a tile seen `scale` times smaller, and the number of windows."""
    _, change, windows = change_of(model, tile, scale, style, own)
    return np.clip(tile + scaled(change, tile.shape[1], tile.shape[0]), 0, 255).round(), windows


def style_of(model, tiles):
    """Returns the mean characteristics of tissue [1, h]."""
    _, characteristics = model.encode(np.stack(tiles))
    grid = (model.side // model.patch, model.patch) * 2
    density = -np.log((np.stack(tiles).reshape(-1, *grid, 3) + 1.0) / 256)
    tissue = density.mean((2, 4, 5)).reshape(len(tiles), -1, 1) >= 0.15
    tissue = tissue if tissue.any() else np.ones_like(tissue)
    return ((characteristics * tissue).sum((0, 1)) / tissue.sum()).astype(np.float32)[None]


def lab(picture):
    linear = np.where(picture > 10.31475, ((picture / 255 + 0.055) / 1.055) ** 2.4, picture / 255 / 12.92)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    xyz = linear @ np.array(to_xyz).T / [0.95047, 1, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def delta_e(a, b):
    return np.linalg.norm(lab(a) - lab(b), axis=-1).mean()


def measure(model, field, errors):
    rng = np.random.default_rng(3)
    height, width = field.shape[:2]
    for number in range(CHANGES):
        changed = known_change(rng)(field)
        for size in (size for size in SIZES if size <= min(height, width)):
            y, x = rng.integers(height - size + 1), rng.integers(width - size + 1)
            tile, truth = (picture[y : y + size, x : x + size] for picture in (field, changed))
            whole = size / model.side
            for scale in (whole, *(scale for scale in SCALES if scale < whole)):
                side = int(model.side * min(scale, 4))
                draw = np.random.default_rng(number)
                places = [(draw.integers(height - side + 1), draw.integers(width - side + 1)) for _ in range(STYLE_TILES)]
                pairs = [[resized(p[y : y + side, x : x + side], model.side, model.side) for p in (field, changed)] for y, x in places]
                before, after = (style_of(model, list(tiles)) for tiles in zip(*pairs, strict=True))
                of_tile = style_of(model, list(cut(model, tile, scale)[3]))
                for start, own in (("patch", None), ("tile", of_tile), ("slide", before)):
                    made, windows = variant(model, tile, scale, after, own)
                    name = "one window" if scale == whole else f"{scale} × smaller"
                    errors[size, name, windows, start].append(delta_e(made, truth))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--bundle", type=Path, required=True)
    options.add_argument("fields", nargs="+", type=Path)
    options = options.parse_args()
    model, errors = Model(options.bundle), defaultdict(list)
    for path in options.fields:
        measure(model, np.asarray(Image.open(path).convert("RGB")), errors)
    print("| tile, px | seen | windows | ΔE, patch → slide | tile → slide | slide → slide |\n|---|---|---|---|---|---|")
    for size, name, windows, start in errors:
        if start == "patch":
            means = (np.mean(errors[size, name, windows, start]) for start in ("patch", "tile", "slide"))
            print(f"| {size} | {name} | {windows} | " + " | ".join(f"{mean:.1f}" for mean in means) + " |")


if __name__ == "__main__":
    main()
