"""The options that data pipelines pass to `Client.augment`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from .contexts import OfSlides
from .style import Detail, Method, Priority, Style


class AugmentOptions(TypedDict, total=False):
    """Options of `Client.augment` that apply to every batch alike."""

    model: str | None
    method: Method | None
    style: Style | None
    slide: str | Sequence[str | None] | OfSlides | None
    strength: float | tuple[float, float] | None
    detail: Detail | None
    mpp: float | None
    priority: Priority | None
    timeout: float | None
