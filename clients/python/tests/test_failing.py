"""What the client does when the server is away, late or full."""

import asyncio
import socket
import threading
import time

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
