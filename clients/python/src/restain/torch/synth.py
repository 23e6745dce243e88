"""Synthesis on any device of torch, bit-identical to the server and to `restain.synthesise`."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from ..answers import EncoderModel, Encodings
from ..carry import FURTHEST, GLASS_CHROMA, GLASS_COLOUR, GLASS_DARKEST, GLASS_LIMIT, GLASS_PEN, GLASS_RAMP, Taps
from ..synth import FUSED, byte_scale
from ..windows import Windows

Device = torch.device | str | None


@dataclass(frozen=True)
class TorchEncodings:
    """Encodings on a device, for repeated use."""

    anatomy: torch.Tensor
    """float16 [W, N, h]: the W windows of all tiles, one after the other; of tiles in one window [n, N, h]"""
    characteristics: torch.Tensor
    """float16 [W, N, S]"""
    model: EncoderModel
    windows: tuple[Windows, ...] = ()
    """The windows of each tile; without any, every tile is in one window."""
    stain: torch.Tensor | None = None
    """float32 [n, S], as in `Encodings`."""
    takes_style: torch.Tensor | None = None
    """bool [n], as in `Encodings`."""
    detail: str = "carry"
    """What the encodings are for, as in `Encodings`."""

    @classmethod
    def of(cls, encodings: Encodings, device: Device = None) -> TorchEncodings:
        def there(array: np.ndarray | None) -> torch.Tensor | None:
            return None if array is None else torch.from_numpy(array).to(device)

        anatomy, own = (torch.from_numpy(half).to(device) for half in (encodings.anatomy, encodings.characteristics))
        stain, takes_style = there(encodings.stain), there(encodings.takes_style)
        return cls(anatomy, own, encodings.model, encodings.windows, stain, takes_style, encodings.detail)

    @property
    def tiles(self) -> int:
        """n: the number of tiles."""
        return len(self.windows) or len(self.anatomy)

    def grid(self, tiles: torch.Tensor | None, patches: int) -> Windows:
        """Returns the windows of every tile. Raises `ValueError` if variants [h, w] are not what encodings are for."""
        side = self.model.image_size
        grids = set(self.windows) or {Windows(side, side)}
        counts = [grid.count for grid in grids]
        size = None if tiles is None else (tiles.shape[1], tiles.shape[2])
        self.model.check_detail(counts, self.detail, size, patches)
        if len(grids) > 1:
            raise ValueError(f"the tiles are in {sorted(counts)} windows: synthesise tiles of one size at a time")
        return grids.pop()

    def starts(self, grid: Windows) -> torch.Tensor:
        """Returns where the change of each window starts: float32 [W, N or 1, S]."""
        own = self.characteristics.float()
        if grid.count == 1 or self.stain is None:
            return own
        stain = self.stain.repeat_interleave(grid.count, 0)[:, None]
        return torch.where(stain.isnan(), own, stain)


def synthesise(
    encodings: Encodings | TorchEncodings,
    styles: torch.Tensor | np.ndarray,
    strength: float = 1.0,
    device: Device = None,
    tiles: torch.Tensor | np.ndarray | None = None,
) -> torch.Tensor:
    """Returns the variants of n tiles in K styles: uint8 [n, K, 3, H, W], in channels-last order.

    `tiles`: the tiles themselves, uint8, a tensor [n, 3, H, W] or an array [n, H, W, 3]. With them the variants have
    the tiles' own detail and size, as with the server's `detail` `carry`. Without them the variants are the bare
    product at the model's size, `detail` `model`; tiles in several windows have none.

    The shape of `styles` says what they are for:

    - [S]: one style for all tiles;
    - [K, S]: K styles for every tile;
    - [n, K, S]: K styles for each tile;
    - [n, K, N, S]: the same, with one style for each patch, for tiles in one window.

    `strength`: 0 keeps the tile's own style, 1 applies the style fully. A tile without a stain, such as glass, keeps
    its own look.

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
    anatomy, own = here.anatomy.float(), here.characteristics.float()[:, None]
    style = _per_tile(torch.as_tensor(styles).to(place, torch.float32), here.tiles, model)
    pixels = None if tiles is None else _tiles(tiles, here.tiles, place)
    grid = here.grid(pixels, style.shape[2])
    kept = None if pixels is None else pixels[:, None].expand(-1, style.shape[1], -1, -1, -1).permute(0, 1, 4, 2, 3)
    if kept is not None and strength == 0:
        return kept
    scale, offset = (torch.from_numpy(part).to(_wide(place)).to(place) for part in byte_scale(model))
    # In single precision, as on the server, where 1 - s is rounded too.
    share = np.float32(strength)
    is_seen = pixels is not None and pixels.shape[1:3] == (model.image_size, model.image_size) and grid.count == 1
    if pixels is not None and kept is not None and not is_seen:
        each = style.repeat_interleave(grid.count, 0)
        changed = (each - here.starts(grid)[:, None]) * float(share)
        values = _assembled(_product(anatomy, changed, model), model)
        change = _blended((values.to(scale.dtype) * scale).float(), grid)
        return _where(here.takes_style, _added(pixels, change), kept)
    if here.takes_style is not None:
        style = torch.where(here.takes_style[:, None, None, None], style, own)
    if pixels is not None:
        known = _levels(_assembled(_product(anatomy, own, model), model), scale, offset, model)
        known = torch.where(known.isnan(), -FURTHEST, known.clamp(-FURTHEST, FURTHEST))
        offset = (offset.float() + (pixels[:, None].float() - known.round())).to(offset.dtype)
    if strength < 1:
        style = own * float(np.float32(1) - share) + style * float(share)
    levels = _levels(_assembled(_product(anatomy, style, model), model), scale, offset, model)
    return _pixels(levels if pixels is None else _with_glass(pixels, levels))


def _tiles(tiles: torch.Tensor | np.ndarray, count: int, place: torch.device) -> torch.Tensor:
    """Brings tiles to uint8 [n, H, W, 3] on a device."""
    pixels = tiles.movedim(1, -1) if isinstance(tiles, torch.Tensor) and tiles.ndim == 4 else torch.as_tensor(tiles)
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[0] != count or pixels.shape[3] != 3:
        given = f"{tiles.dtype} {list(tiles.shape)}"
        raise ValueError(f"tiles are {given}, and must be uint8, a tensor [{count}, 3, H, W] or an array")
    return pixels.to(place)


def apply_styles(
    encodings: TorchEncodings, styles: torch.Tensor, tiles: torch.Tensor | np.ndarray | None = None
) -> torch.Tensor:
    """Returns n tiles in n styles [n, S], differentiable with respect to the styles: [n, 3, H, W] in 0..1.

    They are the variants of `synthesise` before they are rounded, in the precision of `styles`. `tiles` as there.
    """
    model, place, real = encodings.model, encodings.anatomy.device, styles.dtype
    style = _per_tile(styles[:, None], encodings.tiles, model)
    anatomy, own = encodings.anatomy.to(real), encodings.characteristics.to(real)[:, None]
    pixels = None if tiles is None else _tiles(tiles, encodings.tiles, place)
    grid, takes = encodings.grid(pixels, 1), encodings.takes_style
    scale, offset = (torch.from_numpy(part).to(place, real) for part in byte_scale(model))
    if pixels is None:
        style = style if takes is None else torch.where(takes[:, None, None, None], style, own)
        levels = _assembled(_plain_product(anatomy, style, model), model) * scale + offset
    else:
        changed = style.repeat_interleave(grid.count, 0) - encodings.starts(grid).to(real)[:, None]
        change = _blended(_assembled(_plain_product(anatomy, changed, model), model) * scale, grid)
        change = change if takes is None else change * takes[:, None, None, None, None]
        before, glass = pixels[:, None].to(real), _glass(pixels).to(real) / 256
        change = (before + _resampled(change, *pixels.shape[1:3])).clamp(0, 255) - before
        levels = before + glass * change.clamp(-GLASS_LIMIT, GLASS_LIMIT) + (1 - glass) * change
    return levels[:, 0].permute(0, 3, 1, 2).clamp(0, 255) / 255


def _plain_product(anatomy: torch.Tensor, styles: torch.Tensor, model: EncoderModel) -> torch.Tensor:
    """Returns the product [n, K, N, 3, P, P] as torch computes it, for gradients rather than for equal bits."""
    patch, rank = model.patch_size, model.rank
    left = anatomy.reshape(len(anatomy), 1, -1, 3, patch, rank)
    product = left @ styles[..., : model.half].reshape(*styles.shape[:3], 3, rank, patch)
    return product + _bias(styles, model) if model.style_bias else product


def _bias(styles: torch.Tensor, model: EncoderModel) -> torch.Tensor:
    """Returns the constants of styles [n, K, N or 1, S], for every row of a patch: [n, K, N or 1, 3, 1, P]."""
    return styles[..., model.half :].reshape(*styles.shape[:3], 3, 1, model.patch_size)


def _blended(change: torch.Tensor, grid: Windows) -> torch.Tensor:
    """Blends the changes of windows [W, K, H, W, 3] on the canvases of their tiles: [n, K, h, w, 3]."""
    if grid.count == 1:
        return change
    side, of_each = change.shape[2], change.reshape(-1, grid.count, *change.shape[1:]).unbind(1)
    canvas = change.new_zeros((len(of_each[0]), change.shape[1], grid.height, grid.width, 3))
    for changed, (top, left, weights) in zip(of_each, grid.places(side), strict=True):
        weighed = changed * torch.from_numpy(weights).to(changed)[..., None]
        canvas[:, :, top : top + side, left : left + side] += weighed
    return canvas


def _where(takes_style: torch.Tensor | None, made: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Returns the variants of tiles that take a style, and the other tiles as they are."""
    return made if takes_style is None else torch.where(takes_style[:, None, None, None, None], made, kept)


def _added(tiles: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """Adds a change [n, K, H, W, 3] at the model's size to tiles [n, h, w, 3]: uint8 [n, K, 3, h, w]."""
    levels = tiles[:, None].float() + _resampled(change, *tiles.shape[1:3])
    return _pixels(_with_glass(tiles, levels))


def _resampled(change: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resamples a change [n, K, H, W, 3] to [n, K, height, width, 3]."""
    if change.shape[2:4] == (height, width):
        return change
    columns, rows = Taps.of(change.shape[3], width), Taps.of(change.shape[2], height)
    for axis, taps in ((3, columns), (2, rows)):
        weights = torch.from_numpy(taps.weights).to(change)
        starts = torch.from_numpy(taps.starts).to(change.device)
        shape = [-1 if at == axis else 1 for at in range(5)]
        terms = (
            change.index_select(axis, starts + tap) * weights[:, tap].reshape(shape) for tap in range(weights.shape[1])
        )
        # One after the other, as the server adds them.
        change = functools.reduce(torch.add, terms)
    return change


def _with_glass(tiles: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Limits the change of levels [n, K, h, w, 3] where tiles [n, h, w, 3] are glass, as `carry.keep_glass`: int32."""
    own, glass = tiles.int()[:, None], _glass(tiles)
    change = _rounded(levels).int() - own
    limited = change.clamp(-GLASS_LIMIT, GLASS_LIMIT) * glass + change * (256 - glass)
    return own + ((limited + 128) >> 8)


def _glass(tiles: torch.Tensor) -> torch.Tensor:
    """Returns how much each pixel of tiles [n, h, w, 3] is glass, pen or black, 0 to 256: int32 [n, 1, h, w, 1]."""
    own = tiles.int()
    luminance = (77 * own[..., 0] + 150 * own[..., 1] + 29 * own[..., 2]) >> 8
    chroma = own.amax(-1) - own.amin(-1)
    light = (luminance - GLASS_DARKEST).clamp(0, GLASS_RAMP)
    pen = (own[..., 1] - own[..., 0] - GLASS_PEN).clamp(0, GLASS_RAMP)
    black = (GLASS_COLOUR - own.amax(-1)).clamp(0, GLASS_RAMP)
    grey = (GLASS_CHROMA - chroma).clamp(0, GLASS_RAMP)
    glass = torch.maximum(light * grey, GLASS_RAMP * torch.maximum(pen, black))
    return glass[:, None, ..., None]


def _per_tile(styles: torch.Tensor, count: int, model: EncoderModel) -> torch.Tensor:
    """Brings styles of any accepted shape to [n, K, N or 1, S]."""
    shape, length = list(styles.shape), model.style_length
    if styles.ndim in (1, 2):
        styles = styles.reshape(1, -1, 1, shape[-1]).expand(count, -1, -1, -1)
    elif styles.ndim == 3:
        styles = styles[:, :, None]
    is_fit = styles.ndim == 4 and styles.shape[0] == count and styles.shape[2] in (1, model.patches)
    if not is_fit or styles.shape[3] != length:
        accepted = f"[{length}], [K, {length}], [{count}, K, {length}] or [{count}, K, {model.patches}, {length}]"
        raise ValueError(f"styles are {shape}, and must be {accepted}")
    return styles


def _wide(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _product(anatomy: torch.Tensor, styles: torch.Tensor, model: EncoderModel) -> torch.Tensor:
    """Returns the product: f32 [n, K, N, 3, P, P]. `anatomy` [n, N, h], `styles` [n, K, N or 1, S], f32."""
    patch, rank, wide = model.patch_size, model.rank, _wide(anatomy.device)
    count, variants = styles.shape[:2]
    left = anatomy.reshape(count, 1, -1, 3, patch, rank, 1)
    right = styles[..., : model.half].reshape(count, variants, -1, 3, 1, rank, patch)
    sums = torch.zeros((count, variants, left.shape[2], 3, patch, patch), dtype=torch.float32, device=anatomy.device)
    if model.style_bias:
        sums = sums + _bias(styles, model)
    for place in range(rank):
        # Only one rank at a time is in double precision: the whole product would take many times the pixels' memory.
        factors = left[..., place, :].to(wide), right[..., place, :].to(wide)
        if patch in FUSED:
            sums = torch.addcmul(sums.to(wide), *factors).float()
        else:
            sums = sums + (factors[0] * factors[1]).float()
    return sums


def _assembled(values: torch.Tensor, model: EncoderModel) -> torch.Tensor:
    """Assembles patches [n, K, N, 3, P, P] to [n, K, H, W, 3]."""
    side, patch = model.image_size, model.patch_size
    grid, (count, variants) = side // patch, values.shape[:2]
    if model.pixel_order == "planar":
        values = values.permute(0, 1, 2, 4, 5, 3)
    values = values.reshape(count, variants, grid, grid, patch, patch, 3)
    return values.permute(0, 1, 2, 4, 3, 5, 6).reshape(count, variants, side, side, 3)


def _levels(values: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, model: EncoderModel) -> torch.Tensor:
    """Returns the product [.., 3] in levels, f32."""
    wide = values.to(scale.dtype)
    if model.patch_size in FUSED:
        return torch.addcmul(offset, wide, scale).float()
    return (wide * scale).float() + offset.float()


def _pixels(levels: torch.Tensor) -> torch.Tensor:
    """Rounds and clamps levels [n, K, H, W, 3] to uint8 [n, K, 3, H, W]."""
    return _rounded(levels).permute(0, 1, 4, 2, 3)


def _rounded(levels: torch.Tensor) -> torch.Tensor:
    """Rounds and clamps levels to uint8."""
    return levels.nan_to_num(nan=0.0).clamp(0, 255).round().to(torch.uint8)
