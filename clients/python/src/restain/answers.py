"""The results of calls: variants with provenance, encodings, styles and models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic

import numpy as np
from numpy.typing import NDArray

from .windows import Windows

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Variants = TypeVar("Variants", default=NDArray[np.uint8])
else:
    # Defaults of type variables are of Python 3.13.
    from typing import TypeVar

    Variants = TypeVar("Variants")


@dataclass(frozen=True)
class Provenance:
    """How a variant was made: the same bundle, tile, seed and index make it again."""

    model: str
    version: str
    bundle: str
    seed: int
    method: str
    """`original` for a copy of the tile instead of a variant, with `on_error="original"`."""
    tile_key: str
    index: int
    style: str | None
    domain: str | None
    detail: str | None = None
    """`carry` or `model`; None for the methods that work on pixels."""
    fidelity: float | None = None
    """PSNR of the tile's own reconstruction at the model's size, dB; None for the methods that work on pixels."""
    slide: str | None = None
    """The slide that the change of stain started from, if the call named one."""
    mpp: float | None = None
    """Size of the tiles' pixels, µm, if the call named it."""
    windows: int = 1
    """In how many overlapping windows the model saw the tile."""
    strength: float | None = None
    """The strength that it drew, if the call named a range."""
    clipped: float | None = None
    """Share of its values that the change of stain drove to 0 or 255, 0 to 1; None with `detail="model"`."""
    warning: str | None = None
    """Why the tile is unlike what the model was trained on, by its fidelity or its magnification, if it is."""

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Provenance:
        fields: dict[str, Any] = {name: record.get(name) for name in cls.__dataclass_fields__}
        fields["windows"] = record.get("windows", 1)
        return cls(**fields)


@dataclass(frozen=True)
class Timings:
    """The server's time by stage, in milliseconds."""

    queue_ms: float = 0.0
    encode_ms: float = 0.0
    synthesise_ms: float = 0.0
    total_ms: float = 0.0


@dataclass(frozen=True)
class Augmented(Generic[Variants]):
    """The variants of all tiles, in the order of the tiles."""

    variants: Variants
    """uint8 [n, K, H, W, 3]; for tiles of several sizes a list of n arrays uint8 [K, H, W, 3]."""
    seed: int
    failed: NDArray[np.bool_]
    """bool [n]: tiles whose variants are copies of the original, with `on_error="original"`."""
    timings: tuple[Timings, ...]
    """One for each answered request: a call sends several to several servers, or if it exceeds a server's limits."""
    records: tuple[Mapping[str, Any] | str, ...] = field(repr=False)
    order: NDArray[np.intp] = field(repr=False)
    """int [n]: indices of the tiles, in the order of `records`."""

    @cached_property
    def provenance(self) -> list[list[Provenance]]:
        """[n][K], parsed on first access, because a training loop rarely needs it."""
        records: list[Mapping[str, Any]] = []
        for part in self.records:
            records.extend(json.loads(part) if isinstance(part, str) else [part])
        made = [Provenance.from_json(record) for record in records]
        count, rank = len(made) // len(self.order), np.argsort(self.order)
        return [made[at * count : (at + 1) * count] for at in rank]


@dataclass(frozen=True)
class EncoderModel:
    """The parameters of a model that synthesis needs."""

    model: str
    version: str
    bundle: str
    image_size: int
    patch_size: int
    rank: int
    pixel_order: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    window: float = 4.0
    """The server sees tiles of more than this times `image_size` along a side in several windows."""
    style_bias: bool = False
    """Whether a style has, after its product with the anatomy, a constant for every channel and column of a patch."""

    @classmethod
    def from_json(cls, text: str) -> EncoderModel:
        about = json.loads(text)
        geometry, normalisation = about["geometry"], about["normalisation"]
        patch = int(geometry["patch_size"])
        return cls(
            model=about["model"],
            version=about["version"],
            bundle=about["bundle"],
            image_size=int(geometry["image_size"]),
            patch_size=patch,
            rank=int(geometry["embed_dim"]) // 2 // (3 * patch),
            pixel_order=about["pixel_order"],
            mean=tuple(normalisation["mean"]),
            std=tuple(normalisation["std"]),
            window=float(about["window"]),
            style_bias=bool(geometry["style_bias"]),
        )

    def check_detail(self, counts: Sequence[int], detail: str, tiles: tuple[int, int] | None, patches: int = 1) -> None:
        """Raises `ValueError` if encodings are not for the variants that are wanted.

        `counts`: the windows of each tile. `detail`: what the encodings are for. `tiles`: height and width of the tiles
        that carry the variants; None for the bare product. `patches`: for how many patches of a tile there is a style.
        """
        most, several = int(self.window * self.image_size), max(counts, default=1)
        if several > 1 and patches > 1:
            raise ValueError(f"styles are patch by patch, and a tile is in {several} windows: give one for each tile")
        if tiles is None and several > 1:
            raise ValueError(
                f"a tile is in {several} windows, and the bare product is of one: give `tiles`, or encode with "
                '`detail="model"`'
            )
        if tiles is not None and detail == "model" and max(tiles) > most:
            raise ValueError(
                f"tiles are {tiles[0]}×{tiles[1]} pixels, and those of more than {most} pixels a side are carried in "
                'several windows, which `detail="model"` does not have: encode with `detail="carry"`'
            )

    @property
    def patches(self) -> int:
        """N: patches of a tile."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def half(self) -> int:
        """h: length of a patch's anatomy."""
        return 3 * self.patch_size * self.rank

    @property
    def style_length(self) -> int:
        """S: length of a style, which is a patch's characteristics: h, and with a style bias 3·P more."""
        return self.half + (3 * self.patch_size if self.style_bias else 0)


@dataclass(frozen=True)
class Encodings:
    """The encoder's output for n tiles, for `synthesise`."""

    anatomy: NDArray[np.float16]
    """float16 [W, N, h]: the W windows of all tiles, one after the other; of tiles in one window [n, N, h]"""
    characteristics: NDArray[np.float16]
    """float16 [W, N, S]"""
    keys: tuple[str, ...]
    model: EncoderModel
    windows: tuple[Windows, ...] = ()
    """The windows of each tile; without any, every tile is in one window."""
    stain: NDArray[np.float32] | None = None
    """float32 [n, S]: the mean characteristics of each tile's patches with a stain, from which the change of a tile in
    several windows starts; NaN where no patch has one."""
    takes_style: NDArray[np.bool_] | None = None
    """bool [n]: whether each tile takes a style. One without a stain, such as glass, keeps its own look."""
    detail: str = "carry"
    """What the encodings are for: with `model`, for the bare product, every tile is in one window."""

    @property
    def counts(self) -> list[int]:
        """The windows of each tile."""
        return [windows.count for windows in self.windows] or [1] * len(self.anatomy)


@dataclass(frozen=True)
class StyleInfo:
    """A style of the bank, without its numbers."""

    id: str
    source_mean: tuple[float, ...]
    """Per-channel mean of the tile that the style was taken from, pixels in 0..1."""
    source_std: tuple[float, ...]


@dataclass(frozen=True)
class Domain:
    """A domain of the style bank, for example one hospital."""

    domain: str
    origin: str
    """`bundle` or `added`"""
    styles: tuple[StyleInfo, ...]

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Domain:
        styles = (StyleInfo(s["id"], tuple(s["source_mean"]), tuple(s["source_std"])) for s in entry["styles"])
        return cls(entry["domain"], entry["origin"], tuple(styles))


@dataclass(frozen=True)
class Styles:
    """The style bank of one model, by domain."""

    model: str
    version: str
    persistent: bool
    domains: tuple[Domain, ...]


@dataclass(frozen=True)
class ModelInfo:
    """A model that is ready, loading or failed. The fields from `bundle` on are None unless it is ready."""

    name: str
    version: str
    default: bool
    state: str
    reason: str | None = None
    bundle: str | None = None
    precision: str | None = None
    provider: str | None = None
    geometry: Mapping[str, Any] | None = None
    domains: tuple[str, ...] | None = None
    styles: int | None = None
    quality: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> ModelInfo:
        known = {name: entry[name] for name in cls.__dataclass_fields__ if name in entry}
        if known.get("domains") is not None:
            known["domains"] = tuple(known["domains"])
        return cls(**known)
