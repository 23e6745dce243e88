"""Compares ways to carry a tile's detail: how the change at the model's size is put onto a tile of another.

Tiles are cut from fields at several sizes and magnifications, with the same known change of stain and scanner on all, as
in windows.py; the style is that of 16 tiles of the changed field. Rows are means over fields, changes and tiles:

- ΔE to the changed tile itself;
- sharpness: mean difference of neighbouring pixels, of that of the changed tile;
- grid: the difference of neighbours across the borders of the model's patches, of that elsewhere, divided by the same
  of the changed tile.

    pip install numpy pillow onnxruntime
    python3 benches/carry.py --bundle models/demo/9 FIELD...
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from windows import Model, change_of, cut, delta_e, known_change, resized, scaled, style_of

SIZES, SHRUNK = (96, 224, 256, 512), (1, 2, 4)
STYLE_TILES, CHANGES, TILES = 16, 3, 3
# The server's own: see windows.py.
SCALE = 4


def bilinear(tile, canvas, change):
    return tile + scaled(change, tile.shape[1], tile.shape[0], Image.Resampling.BILINEAR)


def bicubic(tile, canvas, change):
    return tile + scaled(change, tile.shape[1], tile.shape[0], Image.Resampling.BICUBIC)


def in_density(tile, canvas, change):
    """The change as a factor of the light: white stays white."""
    factor = np.clip(np.clip(canvas + change, 1, 255) / np.clip(canvas, 1, 255), 0.2, 5)
    return tile * scaled(factor, tile.shape[1], tile.shape[0], Image.Resampling.BILINEAR)


def mean_around(values, radius=3):
    padded = np.pad(values, ((radius, radius), (radius, radius), (0, 0)), "edge")
    sums = np.pad(padded.cumsum(0).cumsum(1), ((1, 0), (1, 0), (0, 0)))
    size = 2 * radius + 1
    return (sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]) / size**2


def local_gain(tile, canvas, change):
    """A gain and an offset for each place, fitted around it, so that detail is scaled too (a guided filter, He 2010)."""
    mean, mean_change = mean_around(canvas), mean_around(change)
    variance = mean_around(canvas**2) - mean**2
    gain = (mean_around(canvas * change) - mean * mean_change) / (variance + 25)
    offset = mean_change - gain * mean
    gain, offset = (scaled(mean_around(v), tile.shape[1], tile.shape[0], Image.Resampling.BILINEAR) for v in (gain, offset))
    return tile + gain * tile + offset


WAYS = {
    "added, bilinear": bilinear,
    "added, bicubic": bicubic,
    "factor of the light": in_density,
    "local gain and offset": local_gain,
}


def sharpness(picture):
    return np.abs(np.diff(picture, axis=0)).mean() + np.abs(np.diff(picture, axis=1)).mean()


def grid(picture, step):
    """Difference across the borders of patches, `step` pixels apart, of that elsewhere."""
    differences = np.abs(np.diff(picture, axis=1)).mean((0, 2))
    borders = np.unique(np.round(np.arange(step, len(differences), step)).astype(int)) - 1
    elsewhere = np.setdiff1d(np.arange(len(differences)), borders)
    return differences[borders].mean() / differences[elsewhere].mean()


def measure(model, field, shrunk, coarsest, figures):
    rng = np.random.default_rng(5)
    if shrunk > 1:
        field = resized(field, field.shape[1] // shrunk, field.shape[0] // shrunk)
    height, width = field.shape[:2]
    for _ in range(CHANGES):
        changed = known_change(rng)(field)
        side = model.side
        places = [(rng.integers(height - side + 1), rng.integers(width - side + 1)) for _ in range(STYLE_TILES)]
        style = style_of(model, [changed[y : y + side, x : x + side] for y, x in places])
        for size in (size for size in SIZES if size <= min(height, width)):
            for _ in range(TILES):
                y, x = rng.integers(height - size + 1), rng.integers(width - size + 1)
                tile, truth = (picture[y : y + size, x : x + size] for picture in (field, changed))
                scale = min(size / model.side, SCALE, coarsest)
                # As it is served: in several windows a tile starts from the mean of its own tissue.
                several = scale < size / model.side
                own = style_of(model, cut(model, tile, scale)[3]) if several else None
                canvas, change, _ = change_of(model, tile, scale, style, own)
                canvas = canvas.astype(float)
                step = model.patch * size / canvas.shape[1]
                for name, way in WAYS.items():
                    made = np.clip(way(tile.astype(float), canvas, change), 0, 255).round()
                    true = truth.astype(float)
                    figures[shrunk, size, name].append(
                        (delta_e(made, true), sharpness(made) / sharpness(true), grid(made, step) / grid(true, step))
                    )


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--bundle", type=Path, required=True)
    options.add_argument("--microns", type=float, default=0.25, help="of a pixel of the fields")
    options.add_argument("--coarsest", type=float, help="µm a pixel at which the model sees a tile at most, as if its mpp were stated")
    options.add_argument("fields", nargs="+", type=Path)
    options = options.parse_args()
    model, figures = Model(options.bundle), defaultdict(list)
    for path in options.fields:
        for shrunk in SHRUNK:
            coarsest = (options.coarsest or np.inf) / (options.microns * shrunk)
            measure(model, np.asarray(Image.open(path).convert("RGB")), shrunk, coarsest, figures)
    print("| µm a pixel | tile, px | " + " | ".join(WAYS) + " |\n|---|---|" + "---|" * len(WAYS))
    for shrunk, size in sorted({key[:2] for key in figures}):
        means = (np.mean(figures[shrunk, size, name], 0) for name in WAYS)
        cells = (f"{error:.1f}, {sharp:.2f}, {edges:.2f}" for error, sharp, edges in means)
        print(f"| {options.microns * shrunk:g} | {size} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
