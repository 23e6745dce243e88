#!/usr/bin/env python3
"""Makes docs/variants.jpg, the picture of README: rows are tiles of 256 px, columns the stains of five hospitals.

Every tile of the picture is a variant that a server made, with its default options; no original is in it. The tiles were
cut from held-out fields of CAMELYON17, which are CC0.

    restain serve &
    pip install clients/python pillow
    python3 tools/readme_picture.py docs/variants.jpg FIELD:Y,X...
"""

import argparse
from pathlib import Path

import numpy as np
import restain
from PIL import Image, ImageDraw

SIDE, GAP, HEAD = 256, 6, 26


def cut(place):
    path, _, corner = place.rpartition(":")
    y, x = map(int, corner.split(","))
    tile = np.asarray(Image.open(path).convert("RGB"))[y : y + SIDE, x : x + SIDE]
    if tile.shape != (SIDE, SIDE, 3):
        raise SystemExit(f"{place} lies beyond the field")
    return tile


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--url", default="http://127.0.0.1:8080")
    options.add_argument("out", type=Path)
    options.add_argument("tiles", nargs="+", metavar="FIELD:Y,X")
    options = options.parse_args()
    tiles = np.stack([cut(place) for place in options.tiles])
    with restain.Client(options.url) as client:
        domains = [domain.domain for domain in client.styles().domains]
        columns = [client.augment(tiles, seed=1, style=restain.Style(domains=[domain], share="request")) for domain in domains]
    width, height = len(domains) * (SIDE + GAP) - GAP, HEAD + len(tiles) * (SIDE + GAP) - GAP
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    for column, (domain, made) in enumerate(zip(domains, columns, strict=True)):
        draw.text((column * (SIDE + GAP) + 4, 4), domain, fill="black", font_size=16)
        for row, variants in enumerate(made.variants):
            picture.paste(Image.fromarray(variants[0]), (column * (SIDE + GAP), HEAD + row * (SIDE + GAP)))
    picture.save(options.out, quality=82)


if __name__ == "__main__":
    main()
