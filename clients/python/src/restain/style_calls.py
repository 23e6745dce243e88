"""The calls for what a server keeps of styles: its style bank, and the slides of tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote, urlencode

from . import call as calls
from . import wire
from .answers import Domain, Styles
from .bank import StyleBank
from .call import Ask, Call
from .mixed import packed
from .tiles import Distinct, Tiles, as_pixels, keys_of
from .transport import read_all

T = TypeVar("T")


class StyleCalls:
    """A part of `Client`, which sends the requests."""

    model: str | None

    def _query(self, model: str | None) -> str:
        named = model or self.model
        return f"?{urlencode({'model': named})}" if named else ""

    def _anywhere(self, timeout: float | None, ask: Callable[[Call], T]) -> T:
        raise NotImplementedError

    def _everywhere(self, timeout: float | None, ask: Callable[[Call], T]) -> T:
        raise NotImplementedError

    def _on_usable(self, timeout: float | None, ask: Callable[[Call], T]) -> T:
        raise NotImplementedError

    def styles(self, model: str | None = None) -> Styles:
        """Lists the style bank by domain."""
        bank = self._anywhere(None, lambda call: calls.json_of(call, "GET", f"/v1/styles{self._query(model)}"))
        domains = tuple(Domain.from_json(domain) for domain in bank["domains"])
        return Styles(bank["model"], bank["version"], bank["persistent"], domains)

    def style_bank(self, model: str | None = None) -> StyleBank:
        """Returns the style bank with its numbers, for `synthesise`."""
        path = f"/v1/styles{self._query(model)}"
        headers = {"Accept": wire.SAFETENSORS}
        return self._anywhere(
            None, lambda call: StyleBank.of(*call.exchange("GET", path, wire.unpack, headers=headers))
        )

    def add_styles(
        self,
        domain: str,
        tiles: Tiles,
        *,
        styles: int | None = None,
        model: str | None = None,
        timeout: float | None = None,
    ) -> Domain:
        """Adds a domain to the bank from some of its tiles, on every replica. Requests must name it to use it."""
        asked = {"domain": domain, "model": model or self.model, "styles": styles}
        metadata = {"request": wire.json_text({name: value for name, value in asked.items() if value is not None})}
        body = wire.pack(packed("tiles", "shapes", as_pixels(tiles)), metadata)
        headers = {"Content-Type": wire.SAFETENSORS, "Accept": "application/json"}
        # Not idempotent: a retry after success fails with `domain_exists`.
        answer = self._everywhere(
            timeout,
            lambda call: call.exchange("POST", "/v1/styles", calls.read_json, lambda: body, headers, repeatable=False),
        )
        return Domain.from_json(answer)

    def remove_styles(self, domain: str, *, model: str | None = None) -> None:
        """Removes a domain that was added at run time, on every replica."""
        path = f"/v1/styles/{quote(domain, safe='')}{self._query(model)}"
        self._everywhere(None, lambda call: call.exchange("DELETE", path, read_all, repeatable=False))

    def add_slide(
        self, tiles: Tiles, *, model: str | None = None, mpp: float | None = None, timeout: float | None = None
    ) -> str:
        """Adds the context of a slide from some of its tiles, on every replica; returns its id for `augment`.

        Some 16 tiles that show different parts of the slide are enough. The id is a hash of the tiles: the same tiles
        give the same id, from every server. `mpp`: the size of their pixels, µm, as in `augment`.
        """
        return self._everywhere(timeout, self._slide(tiles, model, mpp))

    def _add_context(self, tiles: Tiles, model: str | None, mpp: float | None = None) -> str:
        """As `add_slide`, on the replicas that are there."""
        return self._on_usable(None, self._slide(tiles, model, mpp))

    def _slide(self, tiles: Tiles, model: str | None, mpp: float | None) -> Callable[[Call], str]:
        """Returns the request that adds the context of a slide."""
        pixels, asked = as_pixels(tiles), {"model": model or self.model, "mpp": mpp}
        # The server may have encoded the tiles before, for variants.
        distinct = Distinct.of(pixels, None, keys_of(pixels))
        given = {name: value for name, value in asked.items() if value is not None}
        ask = Ask("/v1/slides", given, by_key=True, is_whole=False)
        return lambda call: str(calls.ask_json(call, ask, distinct)["slide"])

    def slides(self, model: str | None = None) -> tuple[str, ...]:
        """Lists the ids of the slides that a server, or one of its replicas, keeps."""
        listed = self._anywhere(None, lambda call: calls.json_of(call, "GET", f"/v1/slides{self._query(model)}"))
        return tuple(listed["slides"])

    def remove_slide(self, slide: str, *, model: str | None = None) -> None:
        """Removes the context of a slide, on every replica."""
        path = f"/v1/slides/{quote(slide, safe='')}{self._query(model)}"
        self._everywhere(None, lambda call: call.exchange("DELETE", path, read_all, repeatable=False))
