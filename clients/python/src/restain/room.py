"""The memory for the variants of a call: one array, or a list of arrays for tiles of several sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import rows
from .call import Answer
from .mixed import Mixed, Pixels, unpacked
from .portions import Portion
from .tiles import Distinct

Asked = Callable[[Mapping[str, NDArray[Any]]], tuple[Answer, Distinct]]
"""Sends a request and returns its response; reads tensors into the given arrays where it can."""


class ArrayRoom:
    """An array [n, K, H, W, 3]: the caller's `out`, or a new one. Responses are read into it without a copy."""

    def __init__(self, pixels: NDArray[np.uint8], variants: int, out: NDArray[np.uint8] | None) -> None:
        shape = (len(pixels), variants, *pixels.shape[1:])
        self._pixels = pixels
        self.variants = np.empty(shape, np.uint8) if out is None else _checked(out, shape)

    def fill(self, portion: Portion, asked: Asked) -> rows.Made:
        room = portion.room(self.variants)
        answer, tiles = asked({"variants": room})
        order, made = rows.order_of(answer, tiles), answer.tensors["variants"]
        if order is not None:
            np.take(made, order, axis=0, out=room)
        elif made is not room:
            room[:] = made
        if not np.may_share_memory(room, self.variants):
            self.variants[portion.places] = room
        return rows.records_of(answer, order, self.variants.shape[1])

    def keep(self, portion: Portion, seed: int) -> rows.Made:
        """Fills a portion with copies of the tiles."""
        self.variants[portion.places] = self._pixels[portion.places][:, None]
        return rows.originals_of(self._pixels[portion.places], self.variants.shape[1], seed)


class ListRoom:
    """A list of n arrays [K, H, W, 3], which are parts of the responses."""

    def __init__(self, pixels: Pixels, variants: int) -> None:
        self._pixels = pixels
        self._count = variants
        self._each = [np.empty(0, np.uint8)] * len(pixels)

    @property
    def variants(self) -> Any:
        return self._each

    def fill(self, portion: Portion, asked: Asked) -> rows.Made:
        answer, tiles = asked({})
        order, made = rows.order_of(answer, tiles), unpacked(answer.tensors, self._count)
        # A tile that is in a request once, and several times in the call, has variants of its own each time.
        copies = made if order is None else [made[row].copy() for row in order]
        self._put(portion, copies)
        return rows.records_of(answer, order, self._count)

    def keep(self, portion: Portion, seed: int) -> rows.Made:
        tiles = self._pixels[portion.places]
        self._put(portion, [np.repeat(tile[None], self._count, axis=0) for tile in tiles])
        return rows.originals_of(tiles, self._count, seed)

    def _put(self, portion: Portion, made: list[NDArray[np.uint8]]) -> None:
        for place, variants in zip(np.arange(len(self._each))[portion.places], made, strict=True):
            self._each[place] = variants


class ModelRoom(ListRoom):
    """An array [n, K, S, S, 3] of the model's size S, which the responses have: the caller's `out`, or a new one."""

    def __init__(self, pixels: NDArray[np.uint8], variants: int, out: NDArray[np.uint8] | None) -> None:
        super().__init__(pixels, variants)
        self._out = out

    @property
    def variants(self) -> Any:
        """The array; a list if originals of another size stand in for some variants."""
        if len({made.shape for made in self._each}) > 1:
            return self._each
        shape = (len(self._each), *self._each[0].shape)
        room = np.empty(shape, np.uint8) if self._out is None else _checked(self._out, shape)
        return np.stack(self._each, out=room)


Room = ArrayRoom | ListRoom


def room_for(pixels: Pixels, variants: int, out: NDArray[np.uint8] | None, of_model: bool = False) -> Room:
    """Returns memory for the variants of tiles, which have the model's size instead of theirs with `of_model`.

    Raises `ValueError` if `out` does not fit.
    """
    if not isinstance(pixels, Mixed):
        return ModelRoom(pixels, variants, out) if of_model else ArrayRoom(pixels, variants, out)
    if out is not None:
        raise ValueError(f"out is {out.dtype} {list(out.shape)}, and must be None: the tiles have several sizes")
    return ListRoom(pixels, variants)


def _checked(out: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f"out is {out.dtype} {list(out.shape)}, and must be uint8 {list(shape)} and C-contiguous")
    return out
