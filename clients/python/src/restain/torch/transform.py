"""A transform for one image or a batch, in a pipeline of torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree as trees

from ..client import Client
from ..keys import tile_key
from ..options import AugmentOptions
from . import images
from .epochs import Epochs

if TYPE_CHECKING:
    from typing_extensions import Unpack


# The modes of PIL images that have colours.
_COLOUR = ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


class RestainTransform(torch.nn.Module):
    """Re-stains images, for `torchvision.transforms.v2.Compose`.

    Takes a PIL image, an array uint8 [H, W, 3], a tensor [3, H, W] (uint8, or floating point in 0..1), or a batch of
    arrays or tensors, and returns the same type. Put it before random crops and colour changes, because the server's
    cache identifies a tile by its pixels, and before normalisation.

    As with torchvision's transforms, a sample may also be several inputs, or a tuple, list or dict of them, nested as
    you like. All `tv_tensors.Image` and colour PIL images in it are images, of any sizes; if there is none, the first
    PIL image, array or tensor with three channels is the image. The rest passes through.

    Each image is one request. They overlap in a `DataLoader` with workers, but `RestainDataset` is faster.

    `p`: the probability that an image is changed. With a `seed` the result depends only on it, the epoch and the tile.
    In a `DataLoader` epochs count themselves, as in `RestainDataset`; elsewhere call `set_epoch` before each epoch.
    Without a seed torch's random generator is used, as in torchvision's transforms.
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
        self._epochs = Epochs(seed)

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch all passes are that begin before the next call. It need not be called."""
        self._epochs.set_epoch(epoch)

    def get_extra_state(self) -> dict[str, int]:
        """Returns the number of the running epoch, which `state_dict` contains."""
        return {"epoch": self._epochs.current()}

    def set_extra_state(self, state: Mapping[str, int]) -> None:
        """Says that the next pass of a `DataLoader` is the epoch of `state`; later passes count on from there."""
        self._epochs.resume(state["epoch"])

    def forward(self, *inputs: Any) -> Any:
        leaves, layout = trees.tree_flatten(inputs[0] if len(inputs) == 1 else inputs)
        chosen = _images_of(leaves)
        if not chosen:
            raise TypeError("the sample contains no image: a PIL image, array [H, W, 3] or tensor [3, H, W]")
        for place in chosen:
            leaves[place] = self._restained(leaves[place])
        return trees.tree_unflatten(leaves, layout)

    def _restained(self, image: Any) -> Any:
        pixels = images.pixels(image)
        tiles = pixels.reshape(-1, *pixels.shape[-3:])
        # Without a seed every image has its own; one for all would give equal tiles equal variants.
        seed = self._epochs.seed_here()
        changed = self._changed(tiles, seed)
        if not changed.any():
            return image
        made = tiles.copy()
        made[changed] = self.client.augment(tiles[changed], seed=seed, **self.options).variants[:, 0]
        return images.like(made.reshape(pixels.shape), image)

    def _changed(self, tiles: NDArray[np.uint8], seed: int) -> NDArray[np.bool_]:
        """Draws the images to change: bool [n]."""
        if self.p >= 1:
            return np.ones(len(tiles), bool)
        if self._epochs.seed is None:
            return (torch.rand(len(tiles)) < self.p).numpy()
        draws = [np.random.default_rng([seed, *_words(tile)]).random() for tile in tiles]
        return np.array(draws) < self.p


def _images_of(leaves: list[Any]) -> list[int]:
    """Returns the places of the images among the leaves of a sample."""
    marked = [place for place, leaf in enumerate(leaves) if _is_marked(leaf)]
    return marked or [place for place, leaf in enumerate(leaves) if images.is_image(leaf)][:1]


def _is_marked(leaf: Any) -> bool:
    if isinstance(leaf, torch.Tensor):
        # By name, because torchvision is an optional dependency.
        return any(kind.__name__ == "Image" for kind in type(leaf).__mro__)
    # A grey PIL image beside a colour one is a mask.
    return images.is_image(leaf) and not isinstance(leaf, np.ndarray) and leaf.mode in _COLOUR


def _words(tile: NDArray[np.uint8]) -> list[int]:
    return [int(word) for word in np.frombuffer(tile_key(tile), "<u4")]
