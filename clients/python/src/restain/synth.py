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

from .answers import EncoderModel, Encodings

# Patch sides for which the server sums with fused multiply-adds.
FUSED = (8, 16)


def synthesise(encodings: Encodings, styles: NDArray[np.floating], strength: float = 1.0) -> NDArray[np.uint8]:
    """Returns the variants of n tiles in K styles: uint8 [n, K, H, W, 3], at the model's size.

    The shape of `styles` says what they are for:

    - [h]: one style for all tiles;
    - [K, h]: K styles for every tile;
    - [n, K, h]: K styles for each tile;
    - [n, K, N, h]: the same, with one style for each patch.

    `strength`: 0 keeps the tile's own style, 1 applies the style fully. Raises `ValueError` for another
    shape or strength.

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
    count, model = len(encodings.anatomy), encodings.model
    each = per_tile(styles, count, model)
    variants = each.shape[1]
    made = np.empty((count, variants, model.image_size, model.image_size, 3), np.uint8)
    for tile, (anatomy, own) in enumerate(zip(encodings.anatomy, encodings.characteristics, strict=True)):
        wide = anatomy.astype(np.float32)
        for variant in range(variants):
            style = mixed(own, each[tile, variant], strength)
            made[tile, variant] = _pixels(_product(wide, style, model), model)
    return made


def reconstruct(encodings: Encodings) -> NDArray[np.uint8]:
    """Returns the reconstructions, every patch with its own characteristics: uint8 [n, H, W, 3].

    >>> model = EncoderModel("demo", "1", "", 16, 8, 1, "planar", (0.5, 0.5, 0.5), (0.1, 0.1, 0.1))
    >>> half = np.ones((1, model.patches, model.half), np.float16)
    >>> reconstruct(Encodings(half, half, ("",), model))[0, 0, 0].tolist()
    [153, 153, 153]
    """
    return synthesise(encodings, encodings.characteristics[:, None])[:, 0]


def per_tile(styles: NDArray[np.floating], count: int, model: EncoderModel) -> NDArray[np.floating]:
    """Brings styles of any accepted shape to [n, K, N or 1, h]."""
    shape = styles.shape
    if styles.ndim in (1, 2):
        styles = np.broadcast_to(styles.reshape(1, -1, 1, shape[-1]), (count, styles.size // shape[-1], 1, shape[-1]))
    elif styles.ndim == 3:
        styles = styles[:, :, None]
    is_fit = styles.ndim == 4 and styles.shape[0] == count and styles.shape[2] in (1, model.patches)
    if not is_fit or styles.shape[3] != model.half:
        n, half, patches = count, model.half, model.patches
        accepted = f"[{half}], [K, {half}], [{n}, K, {half}] or [{n}, K, {patches}, {half}]"
        raise ValueError(f"styles are {list(shape)}, and must be {accepted}")
    return styles


def mixed(own: NDArray[np.floating], style: NDArray[np.floating], strength: float) -> NDArray[np.float32]:
    """Returns own·(1 - s) + style·s: float32 [N or 1, h]. `own` [N, h], `style` [N or 1, h]."""
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}, and must be from 0 to 1")
    style = style.astype(np.float32)
    if strength >= 1:
        return style
    share = np.float32(strength)
    blended: NDArray[np.float32] = own.astype(np.float32) * (np.float32(1) - share) + style * share
    return blended


def _product(anatomy: NDArray[np.float32], style: NDArray[np.float32], model: EncoderModel) -> NDArray[np.float64]:
    """Returns the product: float64 [N, 3, P, P], rounded to single precision. `anatomy` [N, h], `style` [N or 1, h]."""
    patch, rank = model.patch_size, model.rank
    left = anatomy.reshape(-1, 3, patch, rank, 1).astype(np.float64)
    right = style.reshape(-1, 3, 1, rank, patch).astype(np.float64)
    sums = np.zeros((len(left), 3, patch, patch), np.float64)
    for place in range(rank):
        term = left[:, :, :, place] * right[:, :, :, place]
        if patch not in FUSED:
            term = _single(term)
        sums = _single(sums + term)
    return sums


def _pixels(values: NDArray[np.float64], model: EncoderModel) -> NDArray[np.uint8]:
    """Assembles patches [N, 3, P, P] to pixels uint8 [H, W, 3]."""
    side, patch = model.image_size, model.patch_size
    grid = side // patch
    if model.pixel_order == "planar":
        values = values.transpose(0, 2, 3, 1)
    values = values.reshape(grid, grid, patch, patch, 3).transpose(0, 2, 1, 3, 4).reshape(side, side, 3)
    scale, offset = byte_scale(model)
    values = values * scale
    if patch not in FUSED:
        values = _single(values)
    values = _single(values + offset)
    return np.rint(np.clip(np.nan_to_num(values, nan=0.0), 0, 255)).astype(np.uint8)


def byte_scale(model: EncoderModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns scale and offset from normalised values to 0..255, rounded to single precision."""
    whole = np.float32(255)
    scale, offset = np.array(model.std, np.float32) * whole, np.array(model.mean, np.float32) * whole
    return scale.astype(np.float64), offset.astype(np.float64)


def _single(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rounds to single precision."""
    return values.astype(np.float32).astype(np.float64)
