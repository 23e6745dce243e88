"""What the client does when the server is away, late or full."""

import asyncio
import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress

import numpy as np
import pytest
from served import tiles

import restain
from restain import Retry


@pytest.fixture
def nobody():
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def silent():
    """The address of somebody who takes connections and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


class Answers:
    """A server that gives these answers in turn, one a connection: for faults that a real one shows only by chance."""

    def __init__(self, *answers):
        self.requests = 0
        self.first_line = b""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, args=(answers,))
        self._thread.start()

    def _serve(self, answers):
        for answer in answers:
            connection, _ = self._listening.accept()
            with connection, connection.makefile("rb") as request:
                length, self.first_line = 0, request.readline().strip()
                while (line := request.readline().strip()) != b"":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                request.read(length)
                self.requests += 1
                connection.sendall(answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._thread.join()
        self._listening.close()


def said(status, body=b"", *headers):
    head = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


MODELS = said(200, b'{"models":[]}', "Content-Type: application/json")


def test_an_overloaded_server_is_asked_again_until_all_are_served(serve, count):
    # Room for one call at a time, which its tiles take for as long as they wait for others to share their batch.
    server = serve("--max-tiles", 8, "--max-queue-tiles", 8, "--max-batch", 16, "--max-delay", "300ms")
    batches = [tiles(8, seed=seed) for seed in range(3)]
    answers = [None] * len(batches)
    together = threading.Barrier(len(batches))
    with restain.Client(server.url, timeout=60) as client:

        def work(place):
            together.wait()
            answers[place] = client.augment(batches[place], seed=place)

        threads = [threading.Thread(target=work, args=(place,)) for place in range(len(batches))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert count(server, "restain_rejected_total") > 0
        for place, batch in enumerate(batches):
            assert np.array_equal(answers[place].variants, client.augment(batch, seed=place).variants)


def test_retry_after_is_obeyed_and_other_failures_are_tried_again():
    refused = said(429, b'{"code":"overloaded","detail":"full"}', "Retry-After: 1")
    broken = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
    with Answers(refused, said(503), broken, MODELS) as server, restain.Client(server.url, timeout=30) as client:
        started = time.monotonic()
        assert client.models() == ()
        assert time.monotonic() - started > 1
        assert server.requests == 4


class Dying:
    """A server that dies of the first request with tiles, once it has all of it, in one of these ways: for requests
    that no server survives."""

    def __init__(self, how):
        self.how, self.requests = how, 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(0.05)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        with self._listening:
            while self.requests == 0 and not self._is_over.is_set():
                with suppress(TimeoutError):
                    connection, _ = self._listening.accept()
                    with connection:
                        self._die(connection)

    def _die(self, connection):
        connection.setblocking(True)
        with connection.makefile("rb") as request:
            length = 0
            while (line := request.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            request.read(length)
        self.requests += length > 0
        if self.how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self.how in ("head", "half"):
            connection.sendall(said(200, struct.pack("<Q", 100) + bytes(100))[: 10 if self.how == "head" else -50])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()


@pytest.fixture
def fleet():
    """Starts servers that die of a request."""
    with ExitStack() as running:
        yield lambda how, count: [running.enter_context(Dying(how)) for _ in range(count)]


@pytest.mark.parametrize("how", ["closed", "reset", "head", "half"])
@pytest.mark.parametrize("call", ["augment", "encode", "add"])
def test_a_request_that_stops_servers_stops_two_of_them(fleet, how, call):
    servers = fleet(how, 5)
    with restain.Client([server.url for server in servers], timeout=10) as client:
        ask = {
            "augment": lambda: client.augment(tiles(1)),
            "encode": lambda: client.encode(tiles(1)),
            "add": lambda: client._add_context(tiles(4), None),
        }
        with pytest.raises(restain.Unavailable, match=r"unanswered: .* sent 2 times without an answer") as raised:
            ask[call]()
        assert raised.value.code == "unanswered"
        assert sum(server.requests for server in servers) == 2


async def test_a_request_that_stops_servers_stops_two_of_them_with_asyncio_too(fleet):
    servers = fleet("reset", 5)
    async with restain.AsyncClient([server.url for server in servers], timeout=10) as client:
        with pytest.raises(restain.Unavailable, match="unanswered: "):
            await client.augment(tiles(1))
    assert sum(server.requests for server in servers) == 2


def test_other_requests_of_a_call_find_a_server(fleet, serve):
    # Which of several tiles stops a server is unknown: one dies, those that get its tiles next are real.
    (dying,), server, several = fleet("closed", 1), serve(), tiles(16, seed=2)
    with restain.Client([dying.url, server.url], timeout=60) as client, restain.Client(server.url) as alone:
        assert np.array_equal(client.augment(several, seed=1).variants, alone.augment(several, seed=1).variants)
    assert dying.requests == 1


def test_originals_stand_in_for_what_stops_servers(fleet):
    servers = fleet("closed", 5)
    urls = [server.url for server in servers]
    with (
        restain.Client(urls, timeout=10, on_error="original") as client,
        pytest.warns(RuntimeWarning, match="originals stand in"),
    ):
        assert client.augment(tiles(1)).failed.all()
    assert sum(server.requests for server in servers) == 2


@pytest.mark.parametrize("died", [b"", said(502), b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"])
def test_one_address_gets_what_it_did_not_answer_twice(died):
    # One address may be many servers: a Service, a gateway.
    refused = said(503, b"", "Retry-After: 0")
    with (
        Answers(refused, refused, died, refused, died) as server,
        restain.Client(server.url, timeout=30) as client,
        pytest.raises(restain.Unavailable, match="sent 2 times without an answer"),
    ):
        client.augment(tiles(1))
    assert server.requests == 5


def test_a_server_that_has_not_got_the_whole_request_gets_it_again():
    large = tiles(200, 128)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        cut = []

        def serve():
            while len(cut) < 4:
                connection, _ = listening.accept()
                with connection:
                    cut.append(connection.recv(100))
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        retry = Retry(attempts=4, first_wait=0.01)
        with (
            restain.Client(url, retry=retry, timeout=30) as client,
            pytest.raises(restain.Unavailable, match="connection: ") as raised,
        ):
            client.augment(large, method="identity")
        thread.join()
    assert raised.value.code == "connection"


def test_retries_are_counted_and_their_pauses():
    refused = said(503, b"", "Retry-After: 0.2")
    with Answers(refused, refused, MODELS) as server, restain.Client(server.url) as client:
        client.models()
        stats = client.stats()
    assert (stats.requests, stats.retries) == (3, 2)
    assert 0.4 <= stats.pausing < 5


def test_a_wait_that_is_longer_than_the_timeout_is_not_begun():
    refused = said(429, b'{"code":"overloaded","detail":"full"}', "Retry-After: 50")
    with Answers(refused) as server, restain.Client(server.url, timeout=20) as client:
        started = time.monotonic()
        with pytest.raises(restain.Overloaded, match="full") as error:
            client.models()
        assert error.value.retry_after == 50
        assert time.monotonic() - started < 10


def test_attempts_can_be_bounded():
    with (
        Answers(said(503), said(503)) as server,
        restain.Client(server.url, retry=Retry(attempts=2, first_wait=0.01)) as client,
        pytest.raises(restain.Unavailable),
    ):
        client.models()
    assert server.requests == 2


def test_a_request_that_came_too_late_is_sent_again():
    late = said(408, b"<html>Request Timeout</html>")
    with Answers(late, said(408), MODELS) as server, restain.Client(server.url, timeout=30) as client:
        assert client.models() == ()
        assert server.requests == 3
    with (
        Answers(late) as server,
        restain.Client(server.url, retry=Retry(attempts=1)) as client,
        pytest.raises(restain.DeadlineExceeded, match="408"),
    ):
        # Not even this is repeated by a retry: the server never had it.
        client.remove_styles("ours")


def test_a_failure_inside_the_server_is_not_tried_again():
    with Answers(said(500, b'{"code":"internal","detail":"it failed"}')) as server:
        with restain.Client(server.url) as client, pytest.raises(restain.InternalError, match="internal: it failed"):
            client.models()
        assert server.requests == 1


def test_what_a_proxy_says_is_an_error_too():
    with Answers(said(403, b"<html>no</html>")) as server, restain.Client(server.url) as client:
        with pytest.raises(restain.AccessDenied, match="403 <html>no") as error:
            client.models()
        assert error.value.code == ""


def test_a_server_may_live_under_a_path():
    with Answers(MODELS) as server, restain.Client(f"{server.url}/pathology/") as client:
        client.models()
    assert server.first_line == b"GET /pathology/v1/models HTTP/1.1"


def test_nobody_there_is_unavailable_in_time(nobody):
    with restain.Client(nobody, timeout=0.5) as client:
        assert not client.ready()
        started = time.monotonic()
        with pytest.raises(restain.Unavailable, match="takes no connection"):
            client.augment(tiles(1))
        assert time.monotonic() - started < 5


def test_a_server_that_says_nothing_is_given_up(silent):
    with restain.Client(silent) as client, pytest.raises(restain.DeadlineExceeded, match=r"0\.2 s"):
        client.augment(tiles(1), timeout=0.2)


def test_the_server_hears_of_the_timeout(server):
    with restain.Client(server.url, retry=Retry(attempts=1)) as client:
        with pytest.raises(restain.DeadlineExceeded) as error:
            client.augment(tiles(256, seed=5), variants=64, method="hed-jitter", timeout=0.02)
        assert error.value.code == "deadline_exceeded"


def test_originals_stand_in_for_variants_when_the_server_is_away(serve):
    server = serve()
    several = tiles(3, seed=1)
    with restain.Client(server.url, on_error="original", timeout=0.5) as client:
        made = client.augment(several, variants=2, seed=1)
        server.kill()
        with pytest.warns(RuntimeWarning, match="originals stand in"):
            answer = client.augment(several, variants=2, seed=1)
        # Neither a second warning, which would be an error here, nor a second wait.
        started = time.monotonic()
        client.augment(several, variants=2, seed=1)
        assert time.monotonic() - started < 0.4
        assert answer.failed.all()
        assert np.array_equal(answer.variants, np.repeat(several[:, None], 2, axis=1))
        assert {record.method for records in answer.provenance for record in records} == {"original"}
        server.start()
        back = client.augment(several, variants=2, seed=1, timeout=30)
        assert not back.failed.any()
        assert np.array_equal(back.variants, made.variants)
        # What is wrong stays wrong.
        with pytest.raises(restain.InvalidRequest):
            client.augment(several, variants=1000)


async def test_a_cancelled_call_tries_nothing_more(nobody):
    async with restain.AsyncClient(nobody, timeout=60) as client:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.augment(tiles(1)), 0.2)
        # Closing waits for what is under way.
        started = time.monotonic()
    assert time.monotonic() - started < 10
