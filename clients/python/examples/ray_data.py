"""Augments a folder of tiles with Ray Data, and writes the variants as Parquet.

    python examples/ray_data.py data/tiles data/variants --url http://restain:8080 --actors 8

Needs `pip install 'ray[data]' pillow`. Every actor has a client of its own. Ray runs the batches of a lost actor
again; a variant depends only on the tile and the seed, so that the result is the same.
"""

from __future__ import annotations

import argparse
import io
from typing import Any

import numpy as np
import ray
from PIL import Image

from restain import Client


class Restain:
    """Returns a row for each variant of the images of a batch."""

    def __init__(self, url: str, variants: int, seed: int) -> None:
        self.client = Client(url)
        self.variants, self.seed = variants, seed

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        # Also for images of several sizes, of which Ray makes an array of arrays.
        answer = self.client.augment(list(batch["image"]), variants=self.variants, seed=self.seed)
        records = [record for each in answer.provenance for record in each]
        return {
            "path": np.repeat(batch["path"], self.variants),
            "png": [png(variant) for each in answer.variants for variant in each],
            **{name: [getattr(record, name) for record in records] for name in ("index", "style", "domain", "seed")},
        }


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", help="a folder of pictures")
    parser.add_argument("out", help="the folder for Parquet files")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--variants", type=int, default=4)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()

    tiles = ray.data.read_images(options.tiles, mode="RGB", include_paths=True)
    variants = tiles.map_batches(
        Restain,
        fn_constructor_args=(options.url, options.variants, options.seed),
        batch_size=options.batch_size,
        compute=ray.data.ActorPoolStrategy(size=options.actors),
        # The actor waits for the server. Give the server the CPUs.
        num_cpus=0.1,
    )
    variants.write_parquet(options.out)


if __name__ == "__main__":
    main()
