"""The calls for the models of a server: listing, loading and unloading them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

from . import call as calls
from .answers import ModelInfo
from .call import Call

T = TypeVar("T")


class ModelCalls:
    """A part of `Client`, which sends the requests."""

    def _anywhere(self, timeout: float | None, ask: Callable[[Call], T]) -> T:
        raise NotImplementedError

    def _everywhere(self, timeout: float | None, ask: Callable[[Call], T]) -> T:
        raise NotImplementedError

    def models(self) -> tuple[ModelInfo, ...]:
        """Lists the models of the server: those that are ready, loading or failed."""
        answer = self._anywhere(None, lambda call: calls.json_of(call, "GET", "/v1/models"))
        return tuple(ModelInfo.from_json(entry) for entry in answer["models"])

    def load_model(
        self, name: str, *, version: str | None = None, default: bool = False, timeout: float | None = None
    ) -> ModelInfo:
        """Loads a bundle from the server's models directory, and returns when it is ready."""
        body = {"default": default} if version is None else {"default": default, "version": version}
        path = f"/v1/models/{quote(name, safe='')}/load"
        return ModelInfo.from_json(self._everywhere(timeout, lambda call: calls.json_of(call, "POST", path, body)))

    def unload_model(self, name: str, *, version: str | None = None) -> tuple[str, ...]:
        """Unloads one version, or all of them; returns the unloaded ones as NAME/VERSION."""
        body = {} if version is None else {"version": version}
        path = f"/v1/models/{quote(name, safe='')}/unload"
        return tuple(self._everywhere(None, lambda call: calls.json_of(call, "POST", path, body))["unloaded"])
