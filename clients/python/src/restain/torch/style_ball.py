"""Worst-case styles: the style near a start for which a classifier's loss is highest.

A variant is linear in its style, so the gradient of a loss with respect to the style is one more small product, and
the encoder takes no part. The search stays inside a ball: with m the mean and C the covariance of a bank's styles, the
styles T with (T - start)ᵀ C⁺ (T - start) ≤ radius², so that a radius of 1 is one standard deviation, in directions in
which real stains differ. It is the projected gradient ascent of Madry et al. 2018 in whitened coordinates.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..answers import EncoderModel, Encodings
from ..bank import StyleBank
from .synth import Device, TorchEncodings, apply_styles

Loss = Callable[[torch.Tensor], torch.Tensor]
LabelledLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# Directions whose share of the largest deviation is below this are rounding, not stains.
_SMALLEST = 1e-5


@dataclass(frozen=True)
class WorstCase:
    """The worst styles found for n tiles, and the variants in these styles."""

    styles: torch.Tensor
    """float32 [n, S]"""
    images: torch.Tensor
    """float32 [n, 3, H, W] in 0..1"""


@dataclass(frozen=True)
class StyleBall:
    """The mean and the covariance of a bank's styles, for searches inside of it."""

    mean: torch.Tensor
    """float32 [S]"""
    axes: torch.Tensor
    """float32 [S, r]: the square root of the covariance, axes · axesᵀ, over its r directions."""
    bank: StyleBank
    domains: tuple[str, ...] | None
    exclude_domains: tuple[str, ...]

    @classmethod
    def of(
        cls,
        bank: StyleBank,
        *,
        domains: Sequence[str] | None = None,
        exclude_domains: Sequence[str] = (),
        device: Device = None,
    ) -> StyleBall:
        """Computes the ball of a bank's styles, of these domains. Raises `ValueError` if there are fewer than two."""
        rows = [place for group in bank.groups(domains, exclude_domains) for place in group]
        if len(rows) < 2:
            raise ValueError(f"the bank has {len(rows)} style of these domains, and a covariance needs at least two")
        styles = torch.from_numpy(bank.characteristics[rows]).double()
        mean = styles.mean(0)
        _, deviations, directions = torch.linalg.svd((styles - mean) / math.sqrt(len(rows) - 1), full_matrices=False)
        is_direction = deviations > _SMALLEST * deviations[0]
        axes = (directions[is_direction] * deviations[is_direction, None]).T
        chosen = None if domains is None else tuple(domains)
        return cls(mean.float().to(device), axes.float().to(device), bank, chosen, tuple(exclude_domains))

    def draw(self, generator: np.random.Generator, count: int) -> torch.Tensor:
        """Draws styles of the bank, as `StyleBank.draw`: float32 [count, S]."""
        drawn = self.bank.draw(generator, count, domains=self.domains, exclude_domains=self.exclude_domains)
        return torch.from_numpy(drawn).to(self.mean.device)

    def distance(self, styles: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        """Returns the distance of styles [.., S] from `start` in standard deviations of the bank: float32 [..]."""
        inverse = self.axes / self.axes.square().sum(0)
        distance: torch.Tensor = ((styles - start) @ inverse).norm(dim=-1)
        return distance


def worst_case(
    encodings: Encodings | TorchEncodings,
    ball: StyleBall,
    loss: Loss,
    start: torch.Tensor,
    *,
    radius: float = 1.0,
    steps: int = 1,
    tiles: torch.Tensor | np.ndarray | None = None,
) -> WorstCase:
    """Returns styles within `radius` of `start` for which `loss` is high, and the variants in these styles.

    `loss` gets variants, float32 [n, 3, H, W] in 0..1, and returns their losses [n], or the sum or mean. It decides
    whether the classifier is in training mode; the parameters of the classifier get no gradients. `start`: float32
    [n, S] or [S], for example `ball.draw(generator, n)` or `ball.mean`. `radius`: in standard deviations of the bank.
    `steps`: how often the loss is computed; with one step, the style is on the ball's surface where a linear
    loss is highest. `tiles`: as in `synthesise`. Where the gradient is zero the style stays where it is.
    """
    if not (math.isfinite(radius) and radius >= 0):
        raise ValueError(f"radius is {radius}, and must be a number from 0")
    if operator.index(steps) < 1:
        raise ValueError(f"steps is {steps}, and must be at least 1")
    here = encodings if isinstance(encodings, TorchEncodings) else TorchEncodings.of(encodings, ball.mean.device)
    _check_bundles(here.model, ball.bank.model)
    count = here.tiles
    start = start.to(ball.mean).expand(count, -1)
    offset = torch.zeros((count, ball.axes.shape[1]), device=start.device)
    # One step goes to the surface; several can turn on their way and reach it from anywhere in the ball.
    length = radius if steps == 1 else 2.5 * radius / steps
    for _ in range(steps):
        offset = offset.detach().requires_grad_()
        with torch.enable_grad():
            images = apply_styles(here, start + offset @ ball.axes.T, tiles)
            total = loss(images).sum()
        (slope,) = torch.autograd.grad(total, offset)
        offset = _clipped(offset.detach() + length * _directions(slope), radius)
    styles = start + offset @ ball.axes.T
    with torch.no_grad():
        return WorstCase(styles, apply_styles(here, styles, tiles))


def worst_case_batch(
    tiles: torch.Tensor | np.ndarray,
    labels: torch.Tensor,
    encodings: Encodings | TorchEncodings,
    ball: StyleBall,
    loss: LabelledLoss,
    start: torch.Tensor,
    *,
    radius: float = 1.0,
    steps: int = 1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns a batch of n tiles and their worst cases: float32 [2n, 3, H, W] in 0..1, and the labels [2n] likewise.

    The first half is the tiles, as in batches of `RestainCollate`. `tiles`: uint8, a tensor [n, 3, H, W] or an array
    [n, H, W, 3]. `loss` gets images and labels, and returns one loss for each, or the sum or mean. The other arguments
    are those of `worst_case`.
    """
    worst = worst_case(
        encodings, ball, lambda images: loss(images, labels), start, radius=radius, steps=steps, tiles=tiles
    )
    pixels = tiles if isinstance(tiles, torch.Tensor) else torch.from_numpy(tiles).movedim(-1, 1)
    clean = pixels.to(worst.images.device).to(worst.images.dtype) / 255
    return torch.cat([clean, worst.images]), torch.cat([labels, labels])


def _check_bundles(encoded: EncoderModel, bank: EncoderModel) -> None:
    if encoded.bundle != bank.bundle:
        raise ValueError(
            f"the encodings are of bundle {encoded.bundle!r} and the styles of {bank.bundle!r}, and both must be of one"
        )


def _directions(slope: torch.Tensor) -> torch.Tensor:
    """Returns gradients [n, r] at length 1; zero and infinite ones become zero."""
    norms = slope.norm(dim=1, keepdim=True)
    return torch.where((norms > 0) & norms.isfinite(), slope / norms, torch.zeros_like(slope))


def _clipped(offset: torch.Tensor, radius: float) -> torch.Tensor:
    norms = offset.norm(dim=1, keepdim=True)
    return torch.where(norms > radius, offset * (radius / norms), offset)
