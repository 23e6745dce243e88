"""Where a client sends its requests, and the headers that it sends with them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from .version import __version__

_USER_AGENT = f"restain-python/{__version__}"


def server_url(url: str) -> str:
    """Returns an address with its scheme, `http` if it has none. Raises `ValueError` if it is not one of HTTP.

    >>> server_url("localhost:8080"), server_url("https://gateway/pathology")
    ('http://localhost:8080', 'https://gateway/pathology')
    """
    given = str(url).strip()
    whole = given if "://" in given else f"http://{given}"
    try:
        parsed = parse_url(whole)
    except LocationParseError:
        parsed = parse_url("")
    # `https:/host` would be the port-less host `https`.
    is_torn = ":/" in given.replace("://", "")
    if is_torn or parsed.scheme not in ("http", "https") or not parsed.host:
        # Without the address, which may contain a password, beyond its scheme.
        shown = repr(given) if "@" not in given else "the address"
        raise ValueError(f"{shown} is not the address of a server: use http://HOST:PORT or https://HOST:PORT")
    return whole


def server_urls(url: str | tuple[str, ...] | list[str]) -> str | tuple[str, ...]:
    """Returns one address, or all of a list, as `server_url` does."""
    return server_url(url) if isinstance(url, str) else tuple(server_url(one) for one in url)


def request_headers(key: str | None, headers: Mapping[str, str] | None) -> dict[str, str]:
    """Returns the headers of all requests. `key`: the token, by default the environment variable RESTAIN_KEY.

    White space around a token is removed, because files with tokens end with a line end. Raises `ValueError`, which
    contains no value, if a value cannot be sent in a header.

    >>> request_headers("token\\n", {"x-team": "pathology"})["Authorization"]
    'Bearer token'
    """
    token = (key or os.environ.get("RESTAIN_KEY") or "").strip()
    authorization = {"Authorization": f"Bearer {token}"} if token else {}
    every = {"User-Agent": _USER_AGENT, **authorization, **(headers or {})}
    for name, value in every.items():
        if not isinstance(value, str) or not value.isprintable() or not value.isascii():
            what = "the key" if name == "Authorization" and token else f"the header {name!r}"
            raise ValueError(f"{what} must be printable ASCII text, without a line end")
    return every
