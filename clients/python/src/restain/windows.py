"""The windows of a large tile: overlapping pieces of it, which the model sees one by one.

The server shrinks a large tile to its *canvas*, and covers the canvas with windows of the model's size. What a style
changes is computed in each window, and blended on the canvas by weights that fall towards a window's border.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Weights rise over this part of a window's side.
_OVERLAP = 4


@dataclass(frozen=True)
class Windows:
    """Where the windows of a tile lie on its canvas, the tile as the model sees it, in pixels."""

    height: int
    width: int
    rows: tuple[int, ...] = (0,)
    """The first line of each row of windows."""
    columns: tuple[int, ...] = (0,)
    """The first column of each column of windows. Windows are ordered along the rows."""

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Windows:
        return cls(entry["height"], entry["width"], tuple(entry["rows"]), tuple(entry["columns"]))

    @property
    def count(self) -> int:
        """How many windows there are; 1 for a tile that the model sees as a whole."""
        return len(self.rows) * len(self.columns)

    def places(self, side: int) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
        """Yields of each window its first line, its first column, and the weights of its pixels [side, side].

        >>> [weights.tolist() for _, _, weights in Windows(2, 3, columns=(0, 1)).places(2)]
        [[[1.0, 0.5], [1.0, 0.5]], [[0.5, 1.0], [0.5, 1.0]]]
        """
        across = [weights(self.columns, column, side) for column in range(len(self.columns))]
        for row, top in enumerate(self.rows):
            down = weights(self.rows, row, side)
            for left, each in zip(self.columns, across, strict=True):
                yield top, left, down[:, None] * each


def weights(starts: tuple[int, ...], index: int, side: int) -> NDArray[np.float32]:
    """Returns the weights of one window's pixels along an axis, [side]: those of all windows add up to 1."""
    pixels = starts[index] + np.arange(side)
    own, every = np.zeros(side, np.float32), np.zeros(side, np.float32)
    for place, start in enumerate(starts):
        at = pixels - start
        weight = np.minimum(np.minimum(at + 1, side - at), max(side // _OVERLAP, 1))
        weight = np.where((at >= 0) & (at < side), weight, 0).astype(np.float32)
        every += weight
        if place == index:
            own = weight
    return own / every
