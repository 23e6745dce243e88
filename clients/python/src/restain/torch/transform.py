"""A transform for one image or a batch, in a pipeline of torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..client import Client
from ..options import AugmentOptions
from . import images
from .seeds import EpochSeed

if TYPE_CHECKING:
    from typing_extensions import Unpack


class RestainTransform(torch.nn.Module):
    """Re-stains images, for `torchvision.transforms.v2.Compose`.

    Takes a PIL image, an array uint8 [H, W, 3], a tensor [3, H, W] (uint8, or floating point in 0..1), or a batch of
    arrays or tensors, and returns the same type. Of several inputs the first is the image; the others pass through.
    Put it before random crops and colour changes, because the server's cache identifies a tile by its pixels, and
    before normalisation.

    Each image is one request. They overlap in a `DataLoader` with workers, but `RestainDataset` is faster.

    `p`: the probability that an image is changed. With a `seed` the result depends only on it, the epoch
    (`set_epoch`) and the tile; without one torch's random generator is used, as in torchvision's transforms.
    """

    def __init__(
        self, client: Client, *, p: float = 1.0, seed: int | None = None, **options: Unpack[AugmentOptions]
    ) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p is {p}, and must be from 0 to 1")
        self.client = client
        self.p = p
        self.options = options
        self._seed = EpochSeed(seed)

    def set_epoch(self, epoch: int) -> None:
        self._seed.set_epoch(epoch)

    def forward(self, image: Any, *others: Any) -> Any:
        pixels = images.pixels(image)
        tiles = pixels.reshape(-1, *pixels.shape[-3:])
        changed = self._changed(tiles)
        if changed.any():
            # Without a seed every call draws its own; a seed for the epoch would give all images the same style.
            seed = self._seed() if self._seed.seed is not None else int(torch.randint(1 << 53, ()))
            made = tiles.copy()
            made[changed] = self.client.augment(tiles[changed], seed=seed, **self.options).variants[:, 0]
            image = images.like(made.reshape(pixels.shape), image)
        return (image, *others) if others else image

    def _changed(self, tiles: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Draws the images to change: bool [n]."""
        if self.p >= 1:
            return np.ones(len(tiles), bool)
        if self._seed.seed is None:
            return (torch.rand(len(tiles)) < self.p).numpy()
        seed = self._seed()
        draws = [np.random.default_rng([seed, *tile_words(tile)]).random() for tile in tiles]
        return np.array(draws) < self.p


def tile_words(tile: NDArray[np.uint8]) -> list[int]:
    from ..keys import tile_key

    return [int(word) for word in np.frombuffer(tile_key(tile), "<u4")]
