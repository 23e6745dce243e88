"""Clients of the servers that `served` starts, several of them as replicas, and what a server counts."""

import re
import socket
import urllib.request

import pytest
import served
from served import Served

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


@pytest.fixture
def until():
    """Polls until a condition holds."""
    return served.until


@pytest.fixture
def replicas(serve):
    """Starts so many servers."""
    return lambda count, *flags: [serve(*flags) for _ in range(count)]


class At(Served):
    """A server at an address of its own."""

    def __init__(self, folder, http, *flags):
        self.at = http
        super().__init__(folder, *flags)

    def start(self):
        if self.http.endswith(":0"):
            self.http = self.at
        super().start()


class Named:
    """Servers at several addresses with one port, as pods are, and a name that leads to those `found`."""

    name = "replicas.test"

    def __init__(self, folder):
        self.folder, self.running, self.found = folder, [], []
        self._look_up = socket.getaddrinfo

    @property
    def url(self):
        return f"{self.running[0].scheme}://{self.name}:{self.port}"

    @property
    def port(self):
        return self.running[0].http.rpartition(":")[2] if self.running else "0"

    def start(self, count, *flags):
        for number in range(len(self.running) + 1, len(self.running) + count + 1):
            self.running.append(At(self.folder(f"replica-{number}"), f"127.0.0.{number}:{self.port}", *flags))
        return self.running

    def getaddrinfo(self, host, port, *rest, **options):
        if host != self.name:
            return self._look_up(host, port, *rest, **options)
        if not self.found:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.found]


@pytest.fixture
def named(tmp_path_factory, monkeypatch):
    named = Named(tmp_path_factory.mktemp)
    monkeypatch.setattr(socket, "getaddrinfo", named.getaddrinfo)
    yield named
    for server in named.running:
        server.kill()
