"""Clients of the servers that `served` starts, and what a server counts."""

import re
import urllib.request

import pytest

import restain


@pytest.fixture
def client(server):
    with restain.Client(server.url) as client:
        yield client


@pytest.fixture
def count():
    """Reads a counter of a server's metrics, over all its labels."""

    def read(server, name):
        with urllib.request.urlopen(f"{server.url}/metrics") as answer:
            text = answer.read().decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? ([\d.e+]+)$", text, re.MULTILINE))

    return read


class Sent:
    """Bytes of request bodies, in order."""

    def __init__(self):
        self.sizes = []


@pytest.fixture
def sent(monkeypatch):
    """What all clients of the test send, seen where it leaves."""
    from restain import wire
    from restain.transport import Transport

    seen, send = Sent(), Transport.send

    def watched(self, method, path, body, *rest):
        seen.sizes.append(wire.size(body))
        return send(self, method, path, body, *rest)

    monkeypatch.setattr(Transport, "send", watched)
    return seen
