"""The slides of a call's tiles: one id for all tiles, or one for each, of which some may be unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .call import Ask
from .style import Style

Ids = str | Sequence[str | None] | None
"""The slide of all tiles, that of each tile or None, or none."""


def asked(ask: Ask, slide: Ids, count: int, style: Style | None) -> Ask:
    """Returns `ask` about `count` tiles of these slides.

    Raises `ValueError` if there are not as many slides as tiles, or the tiles of the call give each other their styles.
    """
    if slide is None or isinstance(slide, str):
        return ask if slide is None else replace(ask, request={**ask.request, "slide": slide})
    if isinstance(slide, bytes) or len(slide) != count:
        raise ValueError(f"slide has {len(slide)} ids for {count} tiles, and must be one id or one for each tile")
    each = [None if one is None else str(one) for one in slide]
    if len(set(each)) == 1:
        return asked(ask, each[0], count, style)
    if style is not None and style.is_of_batch:
        raise ValueError("slide has several ids, and styles from the batch are shared within one: call once for each")
    return replace(ask, slides=each)
