"""A local copy of a style bank, with the numbers that `synthesise` needs."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .answers import EncoderModel


@dataclass(frozen=True)
class BankStyle:
    """A style's id, its domain, and the colours of the tile it was taken from."""

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
    """S styles: their `characteristics`, float32 [K, S], and a description of each, in the same order.

    `Client.style_bank` returns one. This one has two domains with two styles and one style:

    >>> import numpy as np
    >>> model = EncoderModel("demo", "1", "", 16, 8, 1, "planar", (0.5, 0.5, 0.5), (0.1, 0.1, 0.1))
    >>> styles = [BankStyle(id, id[0], (), ()) for id in ("a/0", "a/1", "b/0")]
    >>> bank = StyleBank(np.eye(3, 24, dtype=np.float32), tuple(styles), model)
    >>> bank.domains
    ('a', 'b')
    >>> bank["a/1"][:3]
    array([0., 1., 0.], dtype=float32)
    """

    characteristics: NDArray[np.float32]
    styles: tuple[BankStyle, ...]
    model: EncoderModel
    """The model of these styles. They do not fit encodings of another `bundle`."""

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> StyleBank:
        entries = json.loads(metadata["styles"])
        styles = tuple(BankStyle.from_json(entry) for entry in entries)
        return cls(tensors["characteristics"], styles, EncoderModel.from_json(metadata["model"]))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {style.id: place for place, style in enumerate(self.styles)}

    def __getitem__(self, id: str) -> NDArray[np.float32]:
        """Returns the style with this id: float32 [S]. Raises `KeyError` if there is none."""
        style: NDArray[np.float32] = self.characteristics[self._place(id)]
        return style

    @property
    def domains(self) -> tuple[str, ...]:
        """The names of the domains, in the order of the bank."""
        return tuple(dict.fromkeys(style.domain for style in self.styles))

    def draw(
        self,
        generator: np.random.Generator,
        shape: int | tuple[int, ...],
        *,
        domains: Sequence[str] | None = None,
        exclude_domains: Sequence[str] = (),
    ) -> NDArray[np.float32]:
        """Draws styles: float32 [*shape, S]. Each draw picks a domain and then one of its styles, both uniformly.

        The server uses the same distribution, but other random numbers. Without `domains`, domains that were added at
        run time are left out. Raises `KeyError` for an unknown domain, `ValueError` if no style is left.

        >>> import numpy as np
        >>> model = EncoderModel("demo", "1", "", 16, 8, 1, "planar", (0.5, 0.5, 0.5), (0.1, 0.1, 0.1))
        >>> styles = [BankStyle(id, id[0], (), ()) for id in ("a/0", "a/1", "b/0")]
        >>> bank = StyleBank(np.eye(3, 24, dtype=np.float32), tuple(styles), model)
        >>> bank.draw(np.random.default_rng(7), (8, 4), exclude_domains=["b"]).shape
        (8, 4, 24)
        """
        among = self.groups(domains, exclude_domains)
        size = tuple(shape) if isinstance(shape, Sequence) else (operator.index(shape),)
        groups_drawn, shares = generator.integers(len(among), size=size), generator.random(size)
        drawn = zip(groups_drawn.flat, shares.flat, strict=True)
        places = [among[group][int(share * len(among[group]))] for group, share in drawn]
        return self.characteristics[places].reshape(*size, -1)

    def groups(self, domains: Sequence[str] | None = None, exclude_domains: Sequence[str] = ()) -> list[list[int]]:
        """Returns the places of the styles to draw from, one list for each domain. Raises as `draw`."""
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
            raise ValueError("no style of the bank is left to draw from: name more domains, or exclude fewer")
        return list(groups.values())

    def blend(self, parts: Mapping[str, float]) -> NDArray[np.float32]:
        """Mixes styles by weight: float32 [S]. The weights are above 0 and need not sum to 1.

        >>> import numpy as np
        >>> model = EncoderModel("demo", "1", "", 16, 8, 1, "planar", (0.5, 0.5, 0.5), (0.1, 0.1, 0.1))
        >>> styles = [BankStyle(id, id[0], (), ()) for id in ("a/0", "a/1", "b/0")]
        >>> bank = StyleBank(np.eye(3, 24, dtype=np.float32), tuple(styles), model)
        >>> bank.blend({"a/0": 1, "b/0": 3})[:3]
        array([0.25, 0.  , 0.75], dtype=float32)
        """
        weights = [np.float32(weight) for weight in parts.values()]
        if not weights or not all(np.isfinite(weight) and weight > 0 for weight in weights):
            raise ValueError(
                f"the weights are {[float(weight) for weight in weights]}, and must be one or more numbers above 0"
            )
        whole = np.float32(0)
        for weight in weights:
            whole += weight
        blended = np.zeros(self.characteristics.shape[1], np.float32)
        # In the server's order of operations, so that the result has the same bits.
        for id, weight in zip(parts, weights, strict=True):
            blended += weight / whole * self[id]
        return blended

    def _place(self, id: str) -> int:
        if id not in self._places:
            raise KeyError(f"the style bank has no style {id!r}; `styles` lists the ids")
        return self._places[id]
