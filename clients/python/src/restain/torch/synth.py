"""Synthesis on any device of torch, bit-identical to the server and to `restain.synthesise`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..answers import EncoderModel, Encodings
from ..synth import FUSED, byte_scale

Device = torch.device | str | None


@dataclass(frozen=True)
class TorchEncodings:
    """Encodings on a device, for repeated use."""

    anatomy: torch.Tensor
    """float16 [n, N, h]"""
    characteristics: torch.Tensor
    """float16 [n, N, h]"""
    model: EncoderModel

    @classmethod
    def of(cls, encodings: Encodings, device: Device = None) -> TorchEncodings:
        anatomy, own = (torch.from_numpy(half).to(device) for half in (encodings.anatomy, encodings.characteristics))
        return cls(anatomy, own, encodings.model)


def synthesise(
    encodings: Encodings | TorchEncodings,
    styles: torch.Tensor | np.ndarray,
    strength: float = 1.0,
    device: Device = None,
) -> torch.Tensor:
    """Returns the variants of n tiles in K styles: uint8 [n, K, 3, H, W], in channels-last order, at the model's size.

    The shape of `styles` says what they are for:

    - [h]: one style for all tiles;
    - [K, h]: K styles for every tile;
    - [n, K, h]: K styles for each tile;
    - [n, K, N, h]: the same, with one style for each patch.

    `strength`: 0 keeps the tile's own style, 1 applies the style fully.

    On a device without double precision (MPS), a few pixels of a million differ by one level.

    >>> model = EncoderModel("demo", "1", "", 16, 8, 1, "planar", (0.5, 0.5, 0.5), (0.1, 0.1, 0.1))
    >>> half = np.ones((2, model.patches, model.half), np.float16)
    >>> styles = torch.zeros(5, model.half)
    >>> synthesise(Encodings(half, half, ("", ""), model), styles).shape
    torch.Size([2, 5, 3, 16, 16])
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}, and must be from 0 to 1")
    here = encodings if isinstance(encodings, TorchEncodings) else TorchEncodings.of(encodings, device)
    model, place = here.model, here.anatomy.device
    style = _per_tile(torch.as_tensor(styles).to(place, torch.float32), len(here.anatomy), model)
    if strength < 1:
        # In single precision, as on the server, where 1 - s is rounded too.
        share = np.float32(strength)
        own = here.characteristics.float()[:, None]
        style = own * float(np.float32(1) - share) + style * float(share)
    values = _product(here.anatomy.float(), style, model)
    return _pixels(values, model)


def _per_tile(styles: torch.Tensor, count: int, model: EncoderModel) -> torch.Tensor:
    """Brings styles of any accepted shape to [n, K, N or 1, h]."""
    shape, half = list(styles.shape), model.half
    if styles.ndim in (1, 2):
        styles = styles.reshape(1, -1, 1, shape[-1]).expand(count, -1, -1, -1)
    elif styles.ndim == 3:
        styles = styles[:, :, None]
    is_fit = styles.ndim == 4 and styles.shape[0] == count and styles.shape[2] in (1, model.patches)
    if not is_fit or styles.shape[3] != half:
        accepted = f"[{half}], [K, {half}], [{count}, K, {half}] or [{count}, K, {model.patches}, {half}]"
        raise ValueError(f"styles are {shape}, and must be {accepted}")
    return styles


def _wide(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _product(anatomy: torch.Tensor, styles: torch.Tensor, model: EncoderModel) -> torch.Tensor:
    """Returns the product: f32 [n, K, N, 3, P, P]. `anatomy` [n, N, h], `styles` [n, K, N or 1, h], f32."""
    patch, rank, wide = model.patch_size, model.rank, _wide(anatomy.device)
    count, variants = styles.shape[:2]
    left = anatomy.reshape(count, 1, -1, 3, patch, rank, 1)
    right = styles.reshape(count, variants, -1, 3, 1, rank, patch)
    sums = torch.zeros((count, variants, left.shape[2], 3, patch, patch), dtype=torch.float32, device=anatomy.device)
    for place in range(rank):
        # Only one rank at a time is in double precision: the whole product would take many times the pixels' memory.
        factors = left[..., place, :].to(wide), right[..., place, :].to(wide)
        if patch in FUSED:
            sums = torch.addcmul(sums.to(wide), *factors).float()
        else:
            sums = sums + (factors[0] * factors[1]).float()
    return sums


def _pixels(values: torch.Tensor, model: EncoderModel) -> torch.Tensor:
    """Assembles patches [n, K, N, 3, P, P] to pixels uint8 [n, K, 3, H, W]."""
    side, patch = model.image_size, model.patch_size
    grid, (count, variants) = side // patch, values.shape[:2]
    if model.pixel_order == "planar":
        values = values.permute(0, 1, 2, 4, 5, 3)
    values = values.reshape(count, variants, grid, grid, patch, patch, 3)
    values = values.permute(0, 1, 2, 4, 3, 5, 6).reshape(count, variants, side, side, 3)
    wide = _wide(values.device)
    scale, offset = (torch.from_numpy(part).to(wide).to(values.device) for part in byte_scale(model))
    if patch in FUSED:
        values = torch.addcmul(offset, values.to(wide), scale).float()
    else:
        values = (values.to(wide) * scale).float() + offset.float()
    return values.nan_to_num(nan=0.0).clamp(0, 255).round().to(torch.uint8).permute(0, 1, 4, 2, 3)
