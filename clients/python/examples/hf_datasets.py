"""Augments a data set of Hugging Face with `datasets.map`, and saves it with the variants.

    python examples/hf_datasets.py data/tiles data/augmented --url http://127.0.0.1:8080

Needs `pip install datasets pillow`. `data/tiles` is an image folder, CLASS/*.png; any other data set with a column
`image` works alike. `datasets` caches the result: the same tiles, function and arguments are not sent again.
"""

from __future__ import annotations

import argparse
from typing import Any

from datasets import Dataset, Features, Value, load_dataset
from PIL import Image

from restain import Client


def with_variants(batch: dict[str, list[Any]], url: str, variants: int, seed: int) -> dict[str, list[Any]]:
    """Returns the rows of a batch, each followed by one row for each variant."""
    with Client(url) as client:
        answer = client.augment(batch["image"], variants=variants, seed=seed)
    rows: dict[str, list[Any]] = {name: [] for name in (*batch, "domain")}
    for place, made in enumerate(answer.variants):
        images = [batch["image"][place], *(Image.fromarray(variant) for variant in made)]
        domains = [None, *(record.domain for record in answer.provenance[place])]
        rest = {name: [batch[name][place]] * len(images) for name in batch}
        for name, values in {**rest, "image": images, "domain": domains}.items():
            rows[name] += values
    return rows


def augmented(tiles: Dataset, url: str, variants: int, seed: int, batch_size: int = 64) -> Dataset:
    """Returns a data set with the tiles and their variants, and a column `domain`, which is None for tiles."""
    features = Features({**tiles.features, "domain": Value("string")})
    arguments = {"url": url, "variants": variants, "seed": seed}
    return tiles.map(with_variants, batched=True, batch_size=batch_size, fn_kwargs=arguments, features=features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", help="folders CLASS/*.png")
    parser.add_argument("out")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--variants", type=int, default=1)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()

    tiles = load_dataset("imagefolder", data_dir=options.tiles, split="train")
    made = augmented(tiles, options.url, options.variants, options.seed)
    made.save_to_disk(options.out)
    print(f"{len(tiles)} tiles, {len(made)} rows with their variants")


if __name__ == "__main__":
    main()
