"""Tiles of several sizes in one call, and the packed form in which a request and its response hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Mixed:
    """Tiles of several sizes, indexed as an array is.

    >>> several = Mixed([np.zeros((2, 3, 3), np.uint8), np.ones((1, 1, 3), np.uint8)])
    >>> several[[1]].items[0].shape, len(several[0:2])
    ((1, 1, 3), 2)
    """

    items: list[NDArray[np.uint8]]
    """uint8 [H, W, 3], C-contiguous"""

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, places: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, places: slice | Sequence[int] | NDArray[np.intp]) -> Mixed: ...
    def __getitem__(self, places: int | slice | Sequence[int] | NDArray[np.intp]) -> NDArray[np.uint8] | Mixed:
        if isinstance(places, int | np.integer):
            return self.items[places]
        chosen = range(len(self.items))[places] if isinstance(places, slice) else places
        return Mixed([self.items[place] for place in chosen])

    def __iter__(self) -> Any:
        return iter(self.items)

    @property
    def nbytes(self) -> int:
        return sum(item.nbytes for item in self.items)


Pixels = NDArray[np.uint8] | Mixed
"""uint8 [n, H, W, 3], or tiles of several sizes."""


def packed(name: str, shapes: str, tiles: Pixels) -> dict[str, NDArray[Any]]:
    """Returns the tensors of tiles: `name`, and for tiles of several sizes `shapes`, their heights and widths.

    >>> several = Mixed([np.zeros((2, 3, 3), np.uint8), np.ones((1, 1, 3), np.uint8)])
    >>> {name: tensor.shape for name, tensor in packed("tiles", "shapes", several).items()}
    {'tiles': (21,), 'shapes': (2, 2)}
    """
    if isinstance(tiles, np.ndarray):
        return {name: tiles}
    sizes = np.array([tile.shape[:2] for tile in tiles], "<i8")
    return {name: np.concatenate([tile.reshape(-1) for tile in tiles]), shapes: sizes}


def unpacked(tensors: Mapping[str, NDArray[Any]], count: int) -> list[NDArray[np.uint8]]:
    """Returns the `count` variants of each tile of a response, packed or not: uint8 [count, H, W, 3], without a copy.

    >>> tensors = {"variants": np.zeros(2 * 21, np.uint8), "shapes": np.array([[2, 3], [1, 1]])}
    >>> [variants.shape for variants in unpacked(tensors, 2)]
    [(2, 2, 3, 3), (2, 1, 1, 3)]
    """
    variants = tensors["variants"]
    if "shapes" not in tensors:
        return list(variants)
    sizes = [(int(height), int(width)) for height, width in tensors["shapes"]]
    ends = np.cumsum([count * height * width * 3 for height, width in sizes])
    parts = np.split(variants, ends[:-1])
    return [part.reshape(count, *size, 3) for part, size in zip(parts, sizes, strict=True)]
