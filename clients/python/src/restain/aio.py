"""The client for asyncio.

Its calls run on a thread pool: they mostly move bytes through sockets with the interpreter's lock released. An HTTP
client in Python on the event loop would hold that lock for several times as long (see `transport`).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from .cancel import Cancellation
from .client import Client
from .stats import Stats
from .threads import Threads

P = ParamSpec("P")
T = TypeVar("T")


def _on_thread(
    method: Callable[Concatenate[Client, P], T],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    @functools.wraps(method)
    async def call(self: AsyncClient, /, *arguments: P.args, **options: P.kwargs) -> T:
        cancelled = Cancellation()
        work = functools.partial(method, self.client, *arguments, **options)
        try:
            return await asyncio.wrap_future(self._threads.submit(work, cancelled))
        except BaseException:
            cancelled.set()
            raise

    return call


class AsyncClient:
    """`Client` with awaitable methods, of the same names and options.

    At most `connections` calls run at once; further calls wait. Cancelling a call breaks its connection.
    """

    def __init__(self, url: str | Sequence[str] = "http://127.0.0.1:8080", **options: Any) -> None:
        """Accepts the arguments of `Client`."""
        self.client = Client(url, **options)
        self._threads = Threads(self.client.connections, "restain-async")

    augment = _on_thread(Client.augment)
    encode = _on_thread(Client.encode)
    styles = _on_thread(Client.styles)
    style_bank = _on_thread(Client.style_bank)
    add_styles = _on_thread(Client.add_styles)
    remove_styles = _on_thread(Client.remove_styles)
    add_slide = _on_thread(Client.add_slide)
    slides = _on_thread(Client.slides)
    remove_slide = _on_thread(Client.remove_slide)
    models = _on_thread(Client.models)
    load_model = _on_thread(Client.load_model)
    unload_model = _on_thread(Client.unload_model)
    ready = _on_thread(Client.ready)

    async def stats(self) -> Stats:
        """As `Client.stats`; it waits for no call."""
        return self.client.stats()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections; running calls raise `Cancelled`."""
        self._threads.close()
        self.client.close()
