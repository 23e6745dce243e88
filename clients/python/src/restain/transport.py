"""One attempt at one HTTP request, over pooled connections. It does not retry, and does not interpret bodies.

It uses urllib3. httpx would include an asynchronous client, but needs four to five times the CPU time for responses of
megabytes (4.3 ms against 0.9 ms for 3.5 MB), which the training loop needs.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError

from . import errors, wire
from .cancel import Cancellation, Line

T = TypeVar("T")

# Bytes of one read: few enough to stay in the CPU's cache while they are copied.
_PIECE = 1 << 18
# The largest body that is joined before sending: a copy costs less than several system calls.
_SMALL = 1 << 16
# Seconds that the client waits beyond the deadline, so that the server's 504 arrives first.
_GRACE = 0.5
# A machine that fails closes no connection: without keepalives a call would wait until its timeout. TCP_USER_TIMEOUT
# is not set, because a server that is too busy to read would count as failed.
_SOCKET_OPTIONS = [
    (level, getattr(socket, name), value)
    for level, name, value in (
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 5),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 2),
    )
    if hasattr(socket, name)
]


class _OfThread(threading.local):
    line: Line | None = None


_of_thread = _OfThread()


class _Held:
    """A connection that hands its socket to the `Line` of the request that it serves in this thread."""

    def _new_conn(self) -> socket.socket:
        made: socket.socket = super()._new_conn()  # type: ignore[misc]
        _hold(made)
        return made

    def request(self, *arguments: Any, **options: Any) -> None:
        _hold(self.sock)  # type: ignore[attr-defined]
        super().request(*arguments, **options)  # type: ignore[misc]
        if _of_thread.line is not None:
            _of_thread.line.is_sent = True


class _Connection(_Held, HTTPConnection):
    pass


class _TlsConnection(_Held, HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _hold(used: socket.socket | None) -> None:
    if used is not None and _of_thread.line is not None:
        _of_thread.line.hold(used)


class NotSent(errors.Unavailable):
    """The connection failed: the server has not received the request."""


class Unanswered(errors.Unavailable):
    """The connection broke after the request was sent, before the end of the answer: it may be why the server died."""


@dataclass(frozen=True)
class Deadline:
    """The end of a call, on the monotonic clock."""

    at: float
    timeout: float

    @classmethod
    def within(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds, seconds)

    def left(self) -> float:
        return self.at - time.monotonic()

    def error(self) -> errors.DeadlineExceeded:
        return errors.DeadlineExceeded(f"no answer within {self.timeout:g} s", code="deadline_exceeded")


class Body:
    """The body of a response, read as it arrives."""

    def __init__(self, response: urllib3.BaseHTTPResponse, deadline: Deadline) -> None:
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._deadline = deadline

    def read_into(self, target: memoryview) -> None:
        start = 0
        while start < len(target):
            count = self._response.readinto(target[start : start + _PIECE])
            if count == 0:
                raise Unanswered(f"the response ends {len(target) - start} bytes early", code="connection")
            if self._deadline.left() < -_GRACE:
                raise self._deadline.error()
            start += count

    def read(self) -> bytes:
        return self._response.read()


def read_all(body: Body) -> bytes:
    """Reads a whole body."""
    return body.read()


def certificates(ca_certs: str | None, client_cert: tuple[str, str] | None) -> dict[str, str]:
    """Returns urllib3's options for PEM files: trusted roots, and the client's certificate with its private key."""
    shown = zip(("cert_file", "key_file"), client_cert, strict=True) if client_cert else ()
    return dict(shown) | ({"ca_certs": ca_certs} if ca_certs else {})


class Transport:
    """Connections to one server.

    `proof`: the result of `certificates`. `named`: the original URL, if `url` contains a resolved address in place of
    its name.
    """

    def __init__(
        self,
        url: str,
        connections: int,
        connect_timeout: float,
        headers: Mapping[str, str],
        proof: Mapping[str, str],
        named: str | None = None,
    ):
        parsed = urllib3.util.parse_url(url.rstrip("/"))
        self._parsed = parsed
        # Messages name the server without the password that an address may have.
        self._url = parsed._replace(auth=None).url
        self._prefix = parsed.path or ""
        self._connect_timeout = connect_timeout
        self._headers = dict(headers)
        self._options: dict[str, Any] = {"maxsize": connections, "block": False, "socket_options": _SOCKET_OPTIONS}
        if parsed.scheme == "https":
            self._options |= proof
        if named is not None:
            name = urllib3.util.parse_url(named)
            # The Host header and the certificate are for the name, not for the address.
            self._headers["Host"] = name.netloc or ""
            if parsed.scheme == "https":
                self._options |= {"server_hostname": name.host, "assert_hostname": name.host}
        self._pool = self._new_pool()

    def _new_pool(self) -> urllib3.HTTPConnectionPool:
        # A pool for the one server: a PoolManager would look it up for every request.
        kind = _TlsPool if self._parsed.scheme == "https" else _Pool
        return kind(self._parsed.host or "", self._parsed.port, **self._options)

    def send(
        self,
        method: str,
        path: str,
        body: Sequence[wire.Piece],
        headers: Mapping[str, str],
        deadline: Deadline,
        read: Callable[[Body], T],
        cancelled: Cancellation | None = None,
    ) -> T:
        """Sends a request, and passes the body of a 2xx response to `read`. Raises one of `errors` otherwise.

        If it is `cancelled`, the connection breaks, which raises `Unavailable`.
        """
        line, before = Line(), _of_thread.line
        _of_thread.line = line
        try:
            with (cancelled or Cancellation()).cutting(line.cut):
                return self._exchange(method, path, body, headers, deadline, read)
        finally:
            _of_thread.line = before
            line.release()

    def _exchange(
        self,
        method: str,
        path: str,
        body: Sequence[wire.Piece],
        headers: Mapping[str, str],
        deadline: Deadline,
        read: Callable[[Body], T],
    ) -> T:
        sent = {**self._headers, **headers}
        if body:
            # With a length, urllib3 does not use chunked encoding.
            sent["Content-Length"] = str(wire.size(body))
        left = max(deadline.left(), 0.001)
        timeout = urllib3.Timeout(connect=min(self._connect_timeout, left), read=left + _GRACE)
        response = None
        try:
            response = self._pool.urlopen(
                method,
                self._prefix + path,
                body=_pieces(body),
                headers=sent,
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )
            answer = Body(response, deadline)
            if not 200 <= response.status < 300:
                raise errors.from_answer(response.status, response.headers, answer.read())
            result = read_answer(answer, response.status, read)
            # The rest of the body must not be read as the head of the next response.
            response.drain_conn()
            response.release_conn()
            return result
        except (NewConnectionError, ConnectTimeoutError) as error:
            if deadline.left() <= 0:
                raise deadline.error() from error
            raise NotSent(f"{self._url} takes no connection: {error}", code="connection") from error
        except ReadTimeoutError as error:
            raise deadline.error() from error
        except (HTTPError, OSError) as error:
            is_sent = _of_thread.line is not None and _of_thread.line.is_sent
            broken = Unanswered if is_sent else errors.Unavailable
            raise broken(f"the connection to {self._url} broke: {error}", code="connection") from error
        except errors.RestainError:
            if response is not None and response.length_remaining == 0:
                response.release_conn()
            raise
        finally:
            # Close the connection after an error; a released connection is not affected.
            if response is not None and response.connection is not None:
                response.close()

    def close(self) -> None:
        closed, self._pool = self._pool, self._new_pool()
        closed.close()


def read_answer(answer: Body, status: int, read: Callable[[Body], T]) -> T:
    """Reads the body of a 2xx response. Raises `Intercepted` if it is a page, or cannot be parsed."""
    if "html" in answer.headers.get("content-type", "").lower():
        raise errors.intercepted(status, answer.headers, answer.read())
    try:
        return read(answer)
    except (ValueError, KeyError, TypeError, IndexError, struct.error) as error:
        raise errors.Intercepted(
            f"the response cannot be read: {type(error).__name__}: {error}", code="intercepted", status=status
        ) from error


def _pieces(body: Sequence[wire.Piece]) -> Any:
    """Joins a small body, because every piece costs a system call; sends a large one without a copy."""
    return b"".join(body) or None if wire.size(body) <= _SMALL else list(body)
