"""Synthesis in numpy: anatomy × characteristics → pixels, bit-identical to the server's result.

The server adds the products of a patch one after the other: with fused multiply-add in single precision for patches
of 8 or 16 pixels, with a multiplication and an addition otherwise. This module emulates fused multiply-add in double
precision, in which the product of two single-precision numbers is exact, and rounds to single after each addition.
(Rounding twice differs from rounding once in about one sum of 2^29, in the last bit, which rarely changes a pixel.)
On processors without fused multiply-add, which are more than ten years old, the server differs by one level in a few
pixels of a million.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import carry
from .answers import EncoderModel, Encodings
from .windows import Windows

# Patch sides for which the server sums with fused multiply-adds.
FUSED = (8, 16)


def synthesise(
    encodings: Encodings,
    styles: NDArray[np.floating],
    strength: float = 1.0,
    tiles: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Returns the variants of n tiles in K styles: uint8 [n, K, H, W, 3].

    `tiles`: the tiles themselves, uint8 [n, H, W, 3]. With them the variants have the tiles' own detail and size, as
    with the server's `detail` `carry`. Without them the variants are the bare product at the model's size, `detail`
    `model`; tiles in several windows have none.

    The shape of `styles` says what they are for:

    - [S]: one style for all tiles;
    - [K, S]: K styles for every tile;
    - [n, K, S]: K styles for each tile;
    - [n, K, N, S]: the same, with one style for each patch, for tiles in one window.

    `strength`: 0 keeps the tile's own style, 1 applies the style fully. Raises `ValueError` for another
    shape or strength. A tile without a stain, such as glass, keeps its own look.

    Four patches of 8 px at rank 1, with gray anatomy and a style that is zero except in red:

    >>> model = EncoderModel("demo", "1", "", 16, 8, 1, "planar", (0.5, 0.5, 0.5), (0.1, 0.1, 0.1))
    >>> half = np.ones((1, model.patches, model.half), np.float16)
    >>> encodings = Encodings(half, half, ("",), model)
    >>> style = np.repeat(np.float32([2, 0, 0]), 8)
    >>> variants = synthesise(encodings, style)
    >>> variants.shape, variants[0, 0, 0, 0].tolist()
    ((1, 1, 16, 16, 3), [178, 128, 128])
    >>> synthesise(encodings, style, strength=0.5)[0, 0, 0, 0].tolist()
    [166, 140, 140]
    """
    count, model = len(encodings.keys), encodings.model
    each = per_tile(styles, count, model)
    variants, side = each.shape[1], model.image_size
    _check_strength(strength)
    size = None if tiles is None else check_tiles(tiles, count)
    model.check_detail(encodings.counts, encodings.detail, size, each.shape[2])
    made = np.empty((count, variants, *(size or (side, side)), 3), np.uint8)
    for tile in range(count):
        maker = _Maker(encodings, tile, None if tiles is None else tiles[tile])
        for variant in range(variants):
            made[tile, variant] = maker.variant(each[tile, variant], strength)
    return made


class _Maker:
    """Makes the variants of one tile."""

    def __init__(self, encodings: Encodings, place: int, tile: NDArray[np.uint8] | None) -> None:
        model, counts = encodings.model, encodings.counts
        first = sum(counts[:place])
        last = first + counts[place]
        self._anatomy = encodings.anatomy[first:last].astype(np.float32)
        self._own = encodings.characteristics[first:last]
        self._windows = encodings.windows[place] if encodings.windows else Windows(model.image_size, model.image_size)
        self._takes_style = encodings.takes_style is None or bool(encodings.takes_style[place])
        stain = None if encodings.stain is None or last - first == 1 else encodings.stain[place]
        self._stain = None if stain is None or np.isnan(stain).any() else stain
        self._model = model
        self._tile = tile
        self._scale, self._offset = byte_scale(model)
        is_seen = tile is not None and tile.shape[:2] == (model.image_size, model.image_size) and last - first == 1
        self._is_resampled = tile is not None and not is_seen
        if tile is not None and not self._is_resampled:
            residual = carry.residual(tile, self._levels(self._own[0]))
            # In single precision, as on the server.
            self._offset = (self._offset.astype(np.float32) + residual).astype(np.float64)

    def variant(self, style: NDArray[np.floating], strength: float) -> NDArray[np.uint8]:
        if not self._takes_style:
            strength = 0
        if self._tile is not None and strength == 0:
            return self._tile
        if self._tile is None:
            return carry.pixels_of(self._levels(mixed(self._own[0], style, strength)))
        return carry.keep_glass(self._tile, self._carried(self._tile, style, strength))

    def _carried(self, tile: NDArray[np.uint8], style: NDArray[np.floating], strength: float) -> NDArray[np.uint8]:
        if not self._is_resampled:
            return carry.pixels_of(self._levels(mixed(self._own[0], style, strength)))
        change = self._change(style, strength)
        return carry.pixels_of(tile + carry.resampled(change, *tile.shape[:2]))

    def _change(self, style: NDArray[np.floating], strength: float) -> NDArray[np.float32]:
        """Returns what the style changes on the canvas, window by window: float32 [H, W, 3]."""
        side, changes = self._model.image_size, []
        for anatomy, own in zip(self._anatomy, self._own, strict=True):
            start = own if self._stain is None else self._stain[None]
            values = _product(anatomy, difference(start, style, strength), self._model)
            changes.append(_single(_assembled(values, self._model) * self._scale).astype(np.float32))
        if len(changes) == 1:
            return changes[0]
        canvas = np.zeros((self._windows.height, self._windows.width, 3), np.float32)
        for change, (top, left, weights) in zip(changes, self._windows.places(side), strict=True):
            canvas[top : top + side, left : left + side] += change * weights[..., None]
        return canvas

    def _levels(self, style: NDArray[np.floating]) -> NDArray[np.float64]:
        """Returns the product in levels: float64 [H, W, 3], rounded to single precision."""
        values = _product(self._anatomy[0], style.astype(np.float32), self._model)
        values = _assembled(values, self._model) * self._scale
        if self._model.patch_size not in FUSED:
            values = _single(values)
        return _single(values + self._offset)


def check_tiles(tiles: NDArray[np.uint8], count: int) -> tuple[int, int]:
    """Returns the height and width of `count` tiles. Raises `ValueError` for another count, shape or dtype."""
    if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.shape[0] != count or tiles.shape[3] != 3:
        raise ValueError(f"tiles are {tiles.dtype} {list(tiles.shape)}, and must be uint8 [{count}, H, W, 3]")
    return tiles.shape[1], tiles.shape[2]


def reconstruct(encodings: Encodings) -> NDArray[np.uint8]:
    """Returns the reconstructions, every patch with its own characteristics: uint8 [n, H, W, 3].

    >>> model = EncoderModel("demo", "1", "", 16, 8, 1, "planar", (0.5, 0.5, 0.5), (0.1, 0.1, 0.1))
    >>> half = np.ones((1, model.patches, model.half), np.float16)
    >>> reconstruct(Encodings(half, half, ("",), model))[0, 0, 0].tolist()
    [153, 153, 153]
    """
    return synthesise(encodings, encodings.characteristics[:, None])[:, 0]


def per_tile(styles: NDArray[np.floating], count: int, model: EncoderModel) -> NDArray[np.floating]:
    """Brings styles of any accepted shape to [n, K, N or 1, S]."""
    shape = styles.shape
    if styles.ndim in (1, 2):
        styles = np.broadcast_to(styles.reshape(1, -1, 1, shape[-1]), (count, styles.size // shape[-1], 1, shape[-1]))
    elif styles.ndim == 3:
        styles = styles[:, :, None]
    is_fit = styles.ndim == 4 and styles.shape[0] == count and styles.shape[2] in (1, model.patches)
    if not is_fit or styles.shape[3] != model.style_length:
        n, length, patches = count, model.style_length, model.patches
        accepted = f"[{length}], [K, {length}], [{n}, K, {length}] or [{n}, K, {patches}, {length}]"
        raise ValueError(f"styles are {list(shape)}, and must be {accepted}")
    return styles


def mixed(own: NDArray[np.floating], style: NDArray[np.floating], strength: float) -> NDArray[np.float32]:
    """Returns own·(1 - s) + style·s: float32 [N or 1, S]. `own` [N, S], `style` [N or 1, S]."""
    _check_strength(strength)
    style = style.astype(np.float32)
    if strength >= 1:
        return style
    share = np.float32(strength)
    blended: NDArray[np.float32] = own.astype(np.float32) * (np.float32(1) - share) + style * share
    return blended


def difference(own: NDArray[np.floating], style: NDArray[np.floating], strength: float) -> NDArray[np.float32]:
    """Returns (style - own)·s: float32 [N, S]. `own` [N, S], `style` [N or 1, S]."""
    _check_strength(strength)
    changed: NDArray[np.float32] = (style.astype(np.float32) - own.astype(np.float32)) * np.float32(strength)
    return changed


def _check_strength(strength: float) -> None:
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}, and must be from 0 to 1")


def _product(anatomy: NDArray[np.float32], style: NDArray[np.float32], model: EncoderModel) -> NDArray[np.float64]:
    """Returns the product: float64 [N, 3, P, P], rounded to single precision. `anatomy` [N, h], `style` [N or 1, S]."""
    patch, rank = model.patch_size, model.rank
    left = anatomy.reshape(-1, 3, patch, rank, 1).astype(np.float64)
    right = style[..., : model.half].reshape(-1, 3, 1, rank, patch).astype(np.float64)
    sums = np.zeros((len(left), 3, patch, patch), np.float64)
    if model.style_bias:
        sums += style[..., model.half :].reshape(-1, 3, 1, patch)
    for place in range(rank):
        term = left[:, :, :, place] * right[:, :, :, place]
        if patch not in FUSED:
            term = _single(term)
        sums = _single(sums + term)
    return sums


def _assembled(values: NDArray[np.float64], model: EncoderModel) -> NDArray[np.float64]:
    """Assembles patches [N, 3, P, P] to [H, W, 3]."""
    side, patch = model.image_size, model.patch_size
    grid = side // patch
    if model.pixel_order == "planar":
        values = values.transpose(0, 2, 3, 1)
    whole: NDArray[np.float64] = values.reshape(grid, grid, patch, patch, 3).transpose(0, 2, 1, 3, 4)
    return whole.reshape(side, side, 3)


def byte_scale(model: EncoderModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns scale and offset from normalised values to 0..255, rounded to single precision."""
    whole = np.float32(255)
    scale, offset = np.array(model.std, np.float32) * whole, np.array(model.mean, np.float32) * whole
    return scale.astype(np.float64), offset.astype(np.float64)


def _single(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rounds to single precision."""
    return values.astype(np.float32).astype(np.float64)
