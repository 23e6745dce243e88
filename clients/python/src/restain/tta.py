"""Test-time use: tiles in the stain of a training hospital, and a classifier's outputs averaged over stains.

`normalise` brings all tiles to one stain, for a classifier that was trained without augmentation. `StainAverage` calls
a classifier with several stains of each tile and averages what it returns. Both work with arrays and with torch's
tensors. Neither trains or loads a classifier.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .client import Client
from .style import Style
from .tiles import as_tiles

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .options import AugmentOptions

Classifier = Callable[[Any], Any]


def normalise(
    client: Client,
    tiles: Any,
    *,
    domain: str | None = None,
    style_id: str | None = None,
    **options: Unpack[AugmentOptions],
) -> Any:
    """Returns all tiles in one stain: the mean stain of `domain`, or that of the bank's style `style_id`.

    `tiles`: uint8 [n, H, W, 3], a sequence of images of one size, or a tensor [n, 3, H, W] (uint8, or floating point
    in 0..1), which is returned as a tensor of the same type. The other options are those of `Client.augment`, such as
    `strength`. The result depends on the tile alone.
    """
    if (domain is None) == (style_id is None):
        raise ValueError(f"domain is {domain!r} and style_id is {style_id!r}, and exactly one of them must be set")
    if options.get("style") is not None:
        raise ValueError("style is set beside domain or style_id, and only one of them can be")
    options["style"] = _stain(domain, style_id)
    return _like(client.augment(_pixels(tiles), seed=0, **options).variants[:, 0], tiles)


@dataclass(frozen=True)
class Averaged:
    """A classifier's outputs for n tiles in V stains: arrays, or tensors if the classifier returns them."""

    views: Any
    """[V, n, ...]: what the classifier returned for each stain; first for the tiles themselves, unless left out."""

    @property
    def mean(self) -> Any:
        """[n, ...]: the mean over the stains."""
        return self.views.mean(0)

    @property
    def std(self) -> Any:
        """[n, ...]: the standard deviation over the stains. It is large for tiles whose class depends on the stain.

        >>> Averaged(np.array([[[0.9, 0.1]], [[0.5, 0.5]]])).std.round(3).tolist()
        [[0.2, 0.2]]
        """
        return ((self.views - self.mean) ** 2).mean(0) ** 0.5


class StainAverage:
    """A classifier whose outputs are averaged over several stains of each tile.

    `classifier` is called once for each stain, with the tiles in that stain: an array uint8 [n, H, W, 3], or a tensor
    [n, 3, H, W] of the type of `tiles`, without gradients. It returns floating-point numbers [n, ...]: probabilities
    rather than logits, if probabilities are to be averaged.

    `stains`: how many styles the server draws for each tile. With `domains` the stains are the mean stains of these
    domains instead, and with `styles` the bank's styles with these ids. `original`: whether the classifier also sees
    the tiles themselves. The draws depend on `seed` and the tile, so that results are repeatable. `batch_size`: tiles
    that the classifier sees in one call. Further options are those of `Client.augment`, such as `strength`.
    """

    def __init__(
        self,
        classifier: Classifier,
        client: Client,
        *,
        stains: int = 4,
        domains: Sequence[str] | None = None,
        styles: Sequence[str] | None = None,
        original: bool = True,
        seed: int = 0,
        batch_size: int = 64,
        **options: Unpack[AugmentOptions],
    ) -> None:
        if domains is not None and styles is not None:
            raise ValueError("domains and styles are both set, and only one of them can be")
        for name, value in {"stains": stains, "batch_size": batch_size}.items():
            if operator.index(value) < 1:
                raise ValueError(f"{name} is {value}, and must be at least 1")
        for name, names in {"domains": domains, "styles": styles}.items():
            if isinstance(names, str) or (names is not None and not names):
                raise ValueError(f"{name} is {names!r}, and must be a list of one or more names")
        if options.get("style") is not None and (domains is not None or styles is not None):
            raise ValueError("style is set beside domains or styles, and only one of them can be")
        self.classifier = classifier
        self.client = client
        self.stains = operator.index(stains)
        self.named = [_stain(name, None) for name in domains or ()] + [_stain(None, name) for name in styles or ()]
        self.original = original
        self.seed = seed
        self.batch_size = operator.index(batch_size)
        self.options = options

    def __call__(self, tiles: Any) -> Averaged:
        """Returns the outputs for tiles, which are those that `normalise` takes."""
        parts = []
        for start in range(0, len(tiles), self.batch_size):
            batch = tiles[start : start + self.batch_size]
            with _without_gradients():
                outputs = [self.classifier(_like(view, batch)) for view in self._views(_pixels(batch))]
            parts.append(_stacked(outputs, batch))
        if not parts:
            raise ValueError("tiles is empty, and must have at least one tile")
        return Averaged(_joined(parts))

    def _views(self, pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        """Yields the tiles, and then the tiles in each stain: uint8 [n, H, W, 3]."""
        if self.original:
            yield pixels
        if not self.named:
            made = self.client.augment(pixels, variants=self.stains, seed=self.seed, **self.options).variants
            yield from made.swapaxes(0, 1)
        for style in self.named:
            options = self.options.copy()
            options["style"] = style
            yield self.client.augment(pixels, seed=self.seed, **options).variants[:, 0]


def _stain(domain: str | None, style: str | None) -> Style:
    """Returns one style for all tiles: the mean of a domain, or a style of the bank."""
    return Style(domains=[domain], spread=0) if domain is not None else Style(ids=[style or ""])


def _torch() -> Any:
    """Returns torch if it is imported: without it there are no tensors."""
    return sys.modules.get("torch")


def _is_tensor(value: Any) -> bool:
    torch = _torch()
    return torch is not None and isinstance(value, torch.Tensor)


def _pixels(tiles: Any) -> NDArray[np.uint8]:
    if not _is_tensor(tiles):
        return as_tiles(tiles)
    from .torch import images

    return as_tiles(images.pixels(tiles))


def _like(pixels: NDArray[np.uint8], tiles: Any) -> Any:
    if not _is_tensor(tiles):
        return np.ascontiguousarray(pixels)
    from .torch import images

    return images.like(np.ascontiguousarray(pixels), tiles)


def _without_gradients() -> Any:
    torch = _torch()
    return nullcontext() if torch is None else torch.no_grad()


def _stacked(outputs: list[Any], batch: Any) -> Any:
    """Returns the outputs of all stains, [V, n, ...]."""
    stacked: Any
    if _is_tensor(outputs[0]):
        stacked = _torch().stack(outputs)
        is_float = stacked.is_floating_point()
    else:
        stacked = np.stack([np.asarray(output) for output in outputs])
        is_float = np.issubdtype(stacked.dtype, np.floating)
    if not is_float or stacked.shape[1:2] != (len(batch),):
        raise ValueError(
            f"the classifier returned {stacked.dtype} {list(stacked.shape[1:])} for {len(batch)} tiles, "
            f"and must return floating-point numbers [{len(batch)}, ...], such as probabilities"
        )
    return stacked


def _joined(parts: list[Any]) -> Any:
    return _torch().cat(parts, 1) if _is_tensor(parts[0]) else np.concatenate(parts, 1)
