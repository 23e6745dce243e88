"""When a call is tried again: when the server asks for it or is away, within the time the caller gave, and never
for what is the caller's fault."""

from __future__ import annotations

import random
from dataclasses import dataclass

from . import errors
from .transport import NotSent


@dataclass(frozen=True)
class Retry:
    """`Retry-After` is obeyed; without one the wait doubles from `first_wait` to `longest_wait`, in seconds."""

    attempts: int | None = None
    """At most so many; None is as many as the timeout of the call allows."""
    first_wait: float = 0.1
    longest_wait: float = 5.0
    jitter: float = 0.25
    """Waits grow by up to this share of themselves, so that many clients do not come back at the same moment."""

    def wait(self, error: errors.ServerError, attempt: int, repeatable: bool) -> float | None:
        """Seconds before the next attempt, when `attempt` of them (from 1) have failed. None: there is no next."""
        if self.attempts is not None and attempt >= self.attempts:
            return None
        if isinstance(error, errors.InternalError):
            return None
        refused = isinstance(error, NotSent) or error.status in (429, 503)
        if not (refused or repeatable):
            return None
        spread = 1.0 + random.random() * self.jitter
        if error.retry_after is not None:
            return error.retry_after * spread
        return min(self.first_wait * 2.0 ** (attempt - 1), self.longest_wait) * spread
