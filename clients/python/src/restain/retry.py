"""Retry policy: retries rejected requests and unavailable servers until the call's timeout, never a faulty request."""

from __future__ import annotations

import random
from dataclasses import dataclass

from . import errors
from .transport import NotSent


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
