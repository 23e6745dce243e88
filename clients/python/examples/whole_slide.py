"""Cuts a whole slide into tiles of tissue, and writes each tile and its variants.

    python examples/whole_slide.py slide.svs data/slide --url http://127.0.0.1:8080 --side 256 --mpp 0.5

Needs `pip install tiffslide pillow`, and imagecodecs for slides with JPEG. Tiles are read at `--mpp` micrometres a
pixel, which should be that of the model's training tiles. `tiles.csv` has the position of every tile on the slide, in
pixels of the slide's highest resolution.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from tiffslide import TiffSlide

from restain import Client

# A pixel is tissue if its colour is this far from grey, and it is not as dark as ink or a fold.
LEAST_SATURATION, LEAST_BRIGHTNESS = 0.07, 0.2


def tissue(slide: TiffSlide, longest: int = 2048) -> np.ndarray:
    """Returns where a thumbnail of the slide shows tissue: bool [height, width]."""
    pixels = np.asarray(slide.get_thumbnail((longest, longest)).convert("HSV")).astype(np.float32) / 255
    return (pixels[..., 1] > LEAST_SATURATION) & (pixels[..., 2] > LEAST_BRIGHTNESS)


class Grid:
    """The tiles of a slide, `side` pixels of `mpp` micrometres each; counts those that have too little tissue."""

    def __init__(self, slide: TiffSlide, side: int, mpp: float, least_tissue: float) -> None:
        own = slide.properties.get("tiffslide.mpp-x")
        if own is None:
            raise SystemExit("the slide has no resolution (tiffslide.mpp-x), so --mpp cannot be applied")
        self.slide, self.side, self.mpp, self.least_tissue = slide, side, mpp, least_tissue
        self.step = round(side * mpp / float(own))
        self.level = slide.get_best_level_for_downsample(mpp / float(own))
        self.mask = tissue(slide)
        self.used = self.skipped = 0

    def __iter__(self) -> Iterator[tuple[int, int, Image.Image]]:
        """Yields x, y and the tile. The margin that does not fill a tile is left out."""
        width, height = self.slide.dimensions
        for y in range(0, height - self.step + 1, self.step):
            for x in range(0, width - self.step + 1, self.step):
                if self._share(x, y) < self.least_tissue:
                    self.skipped += 1
                    continue
                self.used += 1
                size = round(self.step / self.slide.level_downsamples[self.level])
                tile = self.slide.read_region((x, y), self.level, (size, size)).convert("RGB")
                yield x, y, tile.resize((self.side, self.side), Image.Resampling.LANCZOS)

    def _share(self, x: int, y: int) -> float:
        """Returns the share of tissue in a tile."""
        scale = np.array(self.mask.shape[::-1]) / self.slide.dimensions
        (left, top), (right, bottom) = np.floor([x, y] * scale), np.ceil((x + self.step, y + self.step) * scale)
        return float(self.mask[int(top) : int(bottom), int(left) : int(right)].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--side", type=int, default=256, help="pixels of a tile")
    parser.add_argument("--mpp", type=float, default=0.5, help="micrometres of a pixel")
    parser.add_argument("--least-tissue", type=float, default=0.5, help="skip tiles with a smaller share of tissue")
    parser.add_argument("--variants", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    grid = Grid(TiffSlide(options.slide), options.side, options.mpp, options.least_tissue)
    with Client(options.url) as client, open(options.out / "tiles.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["x", "y", "mpp", "file", "domain", "style"])
        every = iter(grid)
        while batch := list(islice(every, 64)):
            answer = client.augment([tile for _, _, tile in batch], variants=options.variants, seed=options.seed)
            for (x, y, tile), made, records in zip(batch, answer.variants, answer.provenance, strict=True):
                name = f"{x}_{y}"
                tile.save(options.out / f"{name}.png")
                table.writerow([x, y, options.mpp, f"{name}.png", "", ""])
                for variant, record in zip(made, records, strict=True):
                    file_name = f"{name}_{record.index}.png"
                    Image.fromarray(variant).save(options.out / file_name)
                    table.writerow([x, y, options.mpp, file_name, record.domain, record.style])
    print(f"{grid.used} tiles of tissue with {options.variants} variants each; skipped {grid.skipped} tiles of glass")


if __name__ == "__main__":
    main()
