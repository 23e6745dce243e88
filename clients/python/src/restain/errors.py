"""Errors: `RequestError` if the request is at fault, `ServerError` if the server or the network is.

Every error has the fields of the server's `application/problem+json`. Errors of the client itself (no connection, no
response in time) have the same fields, with `status` None.

>>> raise NotFound("no model `demp`; there is `demo`", code="model_not_found", status=404)
Traceback (most recent call last):
restain.errors.NotFound: model_not_found: no model `demp`; there is `demo`
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


class RestainError(Exception):
    """Base class of all errors. `code` is stable, for programs; `detail` explains the error to people."""

    def __init__(
        self,
        detail: str,
        *,
        code: str = "",
        status: int | None = None,
        list: str | None = None,
        index: int | None = None,
        indices: tuple[int, ...] = (),
        retry_after: float | None = None,
        location: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.status = status
        self.list = list
        """The list whose item is at fault: `tile`, `key` or `reference`."""
        self.index = index
        """The index of the item at fault, counted from 0 in the tiles or references of the call."""
        self.indices = indices
        self.retry_after = retry_after
        """Seconds after which the server accepts the request again."""
        self.location = location
        """Where a redirect leads."""

    def at_tile(self, index: int) -> RestainError:
        """Returns this error about the tile `index`, in place of the one that it names.

        >>> error = InvalidRequest("tile 0 is 8×8 pixels", list="tile", index=0).at_tile(7)
        >>> error.index, error.detail
        (7, 'tile 7 is 8×8 pixels')
        """
        detail = re.sub(rf"\b{self.list} {self.index}\b", f"tile {index}", self.detail, count=1)
        self.args, self.detail, self.list, self.index = (detail,), detail, "tile", index
        return self

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.code else self.detail


class RequestError(RestainError):
    """The request is at fault: a retry would fail again."""


class InvalidRequest(RequestError):
    """400 or 422: malformed, or with an unacceptable value (tile size, unknown domain, number out of range)."""


class AccessDenied(RequestError):
    """401 or 403: no key, an unknown key, or one without the required scope."""


class NotFound(RequestError):
    """404: the model, domain or path does not exist."""


class TileNotHeld(NotFound):
    """404: the server does not cache the tile of a key. The client handles it by sending the tile."""


class Conflict(RequestError):
    """409: the domain exists already, or the object to remove is in use."""


class TooLarge(RequestError):
    """413: more tiles, bytes or variants than the server accepts in one request that cannot be split."""


class ServerError(RestainError):
    """The server or the network is at fault. With `on_error="original"` the client returns originals instead."""


class Overloaded(ServerError):
    """429: the queue is full, or the key has reached its rate or concurrency."""


class Unavailable(ServerError):
    """No connection, or 503: the server is starting or shutting down."""


class DeadlineExceeded(ServerError):
    """504, no response before the call's timeout, or 408: the request did not arrive in time."""


class InternalError(ServerError):
    """500: the server failed on this request; its log has the cause."""


class Intercepted(ServerError):
    """A redirect, or a page instead of a result: a proxy or a login page answered. `location` is the redirect's target.

    It is not retried: the next request would get the same answer.
    """


class Cancelled(RestainError):
    """The call was cancelled by its caller, or its client was closed meanwhile."""


_BY_STATUS: Mapping[int, type[RestainError]] = {
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    407: AccessDenied,
    408: DeadlineExceeded,
    409: Conflict,
    413: TooLarge,
    429: Overloaded,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}


def from_answer(status: int, headers: Mapping[str, str], body: bytes) -> RestainError:
    """Returns the error for a response other than 2xx, from the server or from a proxy without problem+json."""
    if status < 400:
        return intercepted(status, headers, body)
    problem = _problem(body)
    code = str(problem.get("code", ""))
    kind = _BY_STATUS.get(status, InvalidRequest if status < 500 else InternalError)
    index = problem.get("index")
    return (TileNotHeld if code == "tile_not_held" else kind)(
        str(problem.get("detail") or f"the response is {status} {body[:200].decode(errors='replace')}".rstrip()),
        code=code,
        status=status,
        list=problem.get("list"),
        index=int(index) if index is not None else None,
        indices=tuple(int(i) for i in problem.get("indices", ())),
        retry_after=_seconds(headers.get("retry-after")),
    )


def intercepted(status: int, headers: Mapping[str, str], body: bytes) -> Intercepted:
    """Returns the error for a response that is not of a restain server: a redirect, or a page with status 200."""
    location = headers.get("location")
    if location is not None:
        text = f"the response is {status}, a redirect to {location}"
    else:
        kind = headers.get("content-type", "without a type")
        text = f"the response is {status} {kind}: {body[:200].decode(errors='replace')}".rstrip()
    advice = "a proxy or a login page seems to answer instead of the server"
    return Intercepted(f"{text}; {advice}", code="intercepted", status=status, location=location)


def cancelled_error() -> Cancelled:
    return Cancelled("the call was cancelled, or its client closed", code="cancelled")


def _problem(body: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(body)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _seconds(text: str | None) -> float | None:
    """Parses Retry-After as seconds. A date, which the server never sends, is ignored."""
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None
