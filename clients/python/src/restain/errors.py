"""What can go wrong, by whose fault it is: a `RequestError` is the caller's, a `ServerError` passes.

Every error has what the server's `application/problem+json` says. Errors made on this side of the wire (nobody listens,
no answer in time) look the same, with `status` None.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class RestainError(Exception):
    """Any refusal or failure. `code` is for programs and never changes; `detail` is for people."""

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
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.status = status
        self.list = list
        """The list at fault, `tile`, `key` or `reference`, when one of its items is."""
        self.index = index
        """The item at fault, counted from 0 in the request that was refused."""
        self.indices = indices
        self.retry_after = retry_after
        """Seconds after which the server would have the request again."""

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.code else self.detail


class RequestError(RestainError):
    """The request is at fault: sent again, it would fail again."""


class InvalidRequest(RequestError):
    """Malformed, or well-formed and not acceptable: a tile's size, an unknown domain, a number out of range."""


class AccessDenied(RequestError):
    """401 or 403: no key, a wrong one, or one for something else."""


class NotFound(RequestError):
    """No such model, domain or path."""


class TileNotHeld(NotFound):
    """A key names a tile that the server does not hold. The client answers it by itself; nobody else sees it."""


class Conflict(RequestError):
    """The domain exists already, or what is to be removed is in use."""


class TooLarge(RequestError):
    """More tiles, bytes or variants than the server takes at once, in a request that cannot be made smaller."""


class ServerError(RestainError):
    """The server, or the way there, is at fault. `on_error="original"` stands in for these."""


class Overloaded(ServerError):
    """The queue is full, or the key has asked for more than it may."""


class Unavailable(ServerError):
    """Nobody answers, or a server that is starting or shutting down."""


class DeadlineExceeded(ServerError):
    """No answer in time."""


class InternalError(ServerError):
    """The server failed on this request; its log says how."""


_BY_STATUS: Mapping[int, type[RestainError]] = {
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    429: Overloaded,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}


def from_answer(status: int, headers: Mapping[str, str], body: bytes) -> RestainError:
    """The error that an answer other than 2xx tells, by the server or by a proxy that speaks no problem+json."""
    problem = _problem(body)
    code = str(problem.get("code", ""))
    kind = _BY_STATUS.get(status, InvalidRequest if status < 500 else InternalError)
    index = problem.get("index")
    return (TileNotHeld if code == "tile_not_held" else kind)(
        str(problem.get("detail") or f"the answer is {status} {body[:200].decode(errors='replace')}".rstrip()),
        code=code,
        status=status,
        list=problem.get("list"),
        index=int(index) if index is not None else None,
        indices=tuple(int(i) for i in problem.get("indices", ())),
        retry_after=_seconds(headers.get("retry-after")),
    )


def _problem(body: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(body)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds. A date, which the server never sends, counts as none."""
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None
