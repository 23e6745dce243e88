"""A style bank on this side of the wire: what `synthesise` takes its styles from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .answers import EncoderModel


@dataclass(frozen=True)
class BankStyle:
    id: str
    domain: str
    source_mean: tuple[float, ...]
    source_std: tuple[float, ...]
    origin: str = "bundle"

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> BankStyle:
        mean, std = tuple(entry["source_mean"]), tuple(entry["source_std"])
        return cls(entry["id"], entry["domain"], mean, std, entry.get("origin", "bundle"))


@dataclass(frozen=True)
class StyleBank:
    """`characteristics` float32 [S, h], and what each of them is."""

    characteristics: NDArray[np.float32]
    styles: tuple[BankStyle, ...]
    model: EncoderModel
    """Whose styles these are: they mean nothing to encodings of another `bundle`."""

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> StyleBank:
        entries = json.loads(metadata["styles"])
        styles = tuple(BankStyle.from_json(entry) for entry in entries)
        return cls(tensors["characteristics"], styles, EncoderModel.from_json(metadata["model"]))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {style.id: place for place, style in enumerate(self.styles)}

    def __getitem__(self, id: str) -> NDArray[np.float32]:
        """float32 [h]: the style of this id."""
        style: NDArray[np.float32] = self.characteristics[self._place(id)]
        return style

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(style.domain for style in self.styles))

    def draw(
        self,
        generator: np.random.Generator,
        shape: int | tuple[int, ...],
        *,
        domains: Sequence[str] | None = None,
        exclude_domains: Sequence[str] = (),
    ) -> NDArray[np.float32]:
        """float32 [*shape, h]: for each a domain, and then one of its styles, every one as likely as the others.

        As the server draws, and not the same draws. Without `domains` those that were added to the bundle stay out.
        """
        known = set(self.domains)
        for domain in (*(domains or ()), *exclude_domains):
            if domain not in known:
                raise KeyError(f"the style bank has no domain {domain!r}, and has {', '.join(self.domains)}")
        groups: dict[str, list[int]] = {}
        for place, style in enumerate(self.styles):
            is_wanted = style.origin == "bundle" if domains is None else style.domain in domains
            if is_wanted and style.domain not in exclude_domains:
                groups.setdefault(style.domain, []).append(place)
        if not groups:
            raise ValueError("no style of the bank is left to draw from")
        among = list(groups.values())
        size = (shape,) if isinstance(shape, int) else shape
        groups_drawn, shares = generator.integers(len(among), size=size), generator.random(size)
        drawn = zip(groups_drawn.flat, shares.flat, strict=True)
        places = [among[group][int(share * len(among[group]))] for group, share in drawn]
        return self.characteristics[places].reshape(*size, -1)

    def blend(self, parts: Mapping[str, float]) -> NDArray[np.float32]:
        """float32 [h]: the mixture of styles by their weights, which need not sum to 1."""
        weights = [np.float32(weight) for weight in parts.values()]
        if not weights or not all(np.isfinite(weight) and weight > 0 for weight in weights):
            raise ValueError(
                f"the weights are {[float(weight) for weight in weights]}, and must be some numbers above 0"
            )
        whole = np.float32(0)
        for weight in weights:
            whole += weight
        blended = np.zeros(self.characteristics.shape[1], np.float32)
        # In the server's order of operations, so that the pixels are the server's.
        for id, weight in zip(parts, weights, strict=True):
            blended += weight / whole * self[id]
        return blended

    def _place(self, id: str) -> int:
        if id not in self._places:
            raise KeyError(f"the style bank has no style {id!r}")
        return self._places[id]
