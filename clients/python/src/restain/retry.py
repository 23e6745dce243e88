"""Retry policy: retries rejected requests and unavailable servers until the call's timeout, never a faulty request."""

from __future__ import annotations

import random
from dataclasses import dataclass

from . import errors
from .transport import NotSent, Unanswered

# How often a request is sent again after a server, or one behind a gateway, broke its connection in place of an answer:
# it may be what stops servers, and must not stop all of them.
_RESENDS = 1


@dataclass(frozen=True)
class Retry:
    """Waits as long as `Retry-After` says; without it, doubles the wait from `first_wait` to `longest_wait`, in
    seconds.

    >>> retry = Retry(attempts=3, jitter=0.0)
    >>> busy = errors.Overloaded("the queue is full", status=429)
    >>> [retry.wait(busy, attempt, repeatable=True) for attempt in (1, 2, 3)]
    [0.1, 0.2, None]
    """

    attempts: int | None = None
    """The most attempts; None for as many as the call's timeout allows."""
    first_wait: float = 0.1
    longest_wait: float = 5.0
    jitter: float = 0.25
    """Each wait is extended by a random share up to this, so that clients do not retry simultaneously."""

    def wait(self, error: errors.ServerError, attempt: int, repeatable: bool) -> float | None:
        """Returns the seconds before the next attempt after `attempt` failures (from 1), or None to give up."""
        if self.attempts is not None and attempt >= self.attempts:
            return None
        if isinstance(error, errors.InternalError | errors.Intercepted):
            return None
        # 408: the server gave up before it had the whole request.
        refused = isinstance(error, NotSent) or error.status in (408, 429, 503)
        if not (refused or repeatable):
            return None
        spread = 1.0 + random.random() * self.jitter
        if error.retry_after is not None:
            return error.retry_after * spread
        return min(self.first_wait * 2.0 ** (attempt - 1), self.longest_wait) * spread


def is_unanswered(error: errors.ServerError) -> bool:
    """Returns whether a server, or one behind a gateway, got the request and broke its connection in place of an
    answer."""
    return isinstance(error, Unanswered) or error.status == 502


def last_error(error: errors.ServerError, unanswered: int) -> errors.ServerError | None:
    """Returns the error of a request that must not be sent again, after it was `unanswered` so often; else None.

    >>> broken = Unanswered("the connection broke", code="connection")
    >>> last_error(broken, 1) is None, last_error(broken, 2).code
    (True, 'unanswered')
    """
    if unanswered <= _RESENDS:
        return None
    return Unanswered(
        f"{error.detail}; the request was sent {unanswered} times without an answer and is not sent again, because it "
        "may be what stops the servers",
        code="unanswered",
        status=error.status,
    )
