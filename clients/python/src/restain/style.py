"""The style of a request, with the fields of the server's `style` object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Source = Literal["bank", "batch", "reference", "own"]
Placement = Literal["broadcast", "aligned"]
Share = Literal["tile", "request"]
Method = Literal["vit", "color-match", "hed-jitter", "identity"]
Detail = Literal["carry", "model"]
Priority = Literal["interactive", "bulk"]


@dataclass(frozen=True)
class Part:
    """A part of a blend: a style by `id`, or a style of a `domain`, drawn for each variant."""

    weight: float
    id: str | None = None
    domain: str | None = None

    def to_json(self) -> dict[str, Any]:
        return _given(weight=self.weight, id=self.id, domain=self.domain)


@dataclass(frozen=True)
class Style:
    """Where styles come from and how they are applied. The server's default applies to every field that is None.

    >>> Style(domains=["centre_2"]).to_json()
    {'domains': ['centre_2']}
    >>> Style(blend=[Part(1, id="centre_1/3"), Part(3, domain="centre_2")]).to_json()
    {'blend': [{'weight': 1, 'id': 'centre_1/3'}, {'weight': 3, 'domain': 'centre_2'}]}
    """

    source: Source | None = None
    domains: Sequence[str] | None = None
    exclude_domains: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    blend: Sequence[Part] | None = None
    placement: Placement | None = None
    share: Share | None = None
    spread: float | None = None
    """How wide styles of the bank are drawn, 0 to 3: 1 takes them as they are, 0 takes their mean."""
    references: NDArray[np.uint8] | None = None
    """uint8 [r, H, W, 3]. If given, `source` is "reference" by default."""

    @property
    def is_of_batch(self) -> bool:
        """Whether a variant depends on the other tiles of the request, and on their order."""
        return self.source == "batch"

    def to_json(self) -> dict[str, Any]:
        source = "reference" if self.source is None and self.references is not None else self.source
        return _given(
            **{"from": source},
            domains=_list(self.domains),
            exclude_domains=_list(self.exclude_domains),
            ids=_list(self.ids),
            blend=None if self.blend is None else [part.to_json() for part in self.blend],
            placement=self.placement,
            share=self.share,
            spread=self.spread,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields that are set, as plain values: for saved pipelines."""
        parts = None if self.blend is None else [part.to_json() for part in self.blend]
        pixels = None if self.references is None else np.asarray(self.references).tolist()
        fields = {name: getattr(self, name) for name in ("source", "placement", "share", "spread")}
        names = {name: _list(getattr(self, name)) for name in ("domains", "exclude_domains", "ids")}
        return _given(**fields, **names, blend=parts, references=pixels)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Style:
        """Returns the style that `to_dict` has described.

        >>> Style.from_dict(Style(domains=["centre_2"], blend=[Part(1, id="centre_1/3")]).to_dict()).blend
        [Part(weight=1, id='centre_1/3', domain=None)]
        """
        made = dict(fields)
        if "blend" in made:
            made["blend"] = [Part(**part) for part in made["blend"]]
        if "references" in made:
            made["references"] = np.asarray(made["references"], np.uint8)
        return cls(**made)


def _list(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else [names] if isinstance(names, str) else list(names)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def strengths(strength: float | tuple[float, float] | None) -> dict[str, float | None]:
    """Returns the fields of a strength, or of the range that each variant draws its own from.

    >>> strengths(0.5), strengths((0.5, 1))
    ({'strength': 0.5}, {'strength_from': 0.5, 'strength': 1})
    """
    if not isinstance(strength, tuple | list):
        return {"strength": strength}
    least, most = strength
    return {"strength_from": least, "strength": most}
