"""What data pipelines pass on to `Client.augment`."""

from __future__ import annotations

from typing import TypedDict

from .style import Method, Priority, Style


class AugmentOptions(TypedDict, total=False):
    """Options of `Client.augment` that mean the same for every batch."""

    model: str | None
    method: Method | None
    style: Style | None
    strength: float | None
    resize: bool
    priority: Priority | None
    timeout: float | None
