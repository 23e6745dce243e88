"""The call for encodings, of which the caller makes the variants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from numpy.typing import NDArray

from . import errors, rows
from .answers import Encodings
from .call import Answer, Ask, Call
from .mixed import Pixels
from .portions import Portion
from .style import Detail, Priority
from .tiles import Distinct, Tiles, as_pixels

T = TypeVar("T")


class EncodeCalls:
    """A part of `Client`, which sends the requests."""

    model: str | None

    def _asked(
        self, call: Call, ask: Ask, portion: Portion, pixels: Pixels, into: Mapping[str, NDArray[Any]]
    ) -> tuple[Answer, Distinct]:
        raise NotImplementedError

    def _delivered(
        self,
        ask: Ask,
        pixels: Pixels,
        answer_share: int,
        timeout: float | None,
        one: Callable[[Call, Portion], T],
        instead: Callable[[Portion, errors.ServerError], T | None],
    ) -> list[tuple[Portion, T]]:
        raise NotImplementedError

    def encode(
        self,
        tiles: Tiles,
        *,
        model: str | None = None,
        detail: Detail | None = None,
        mpp: float | None = None,
        priority: Priority | None = None,
        timeout: float | None = None,
    ) -> Encodings:
        """Returns the encodings of tiles, for `synthesise`. Errors are raised, whatever `on_error` is.

        A tile of more than four times the model's size (`--window`) is in several windows; with `detail` `model`, for
        the bare product, every tile is in one. `mpp`: the size of the tiles' pixels, µm, as in `augment`.
        """
        pixels = as_pixels(tiles)
        request = {"model": model or self.model, "detail": detail, "mpp": mpp, "priority": priority}
        ask = Ask("/v1/encode", {name: value for name, value in request.items() if value is not None}, True, False)

        def one(call: Call, portion: Portion) -> Encodings:
            return rows.encodings_of(*self._asked(call, ask, portion, pixels, {}))

        # An encoding has twice as many numbers as a tile has pixels, in f16: four times the bytes.
        answered = self._delivered(ask, pixels, 4, timeout, one, lambda portion, error: None)
        return rows.joined(len(pixels), answered)
