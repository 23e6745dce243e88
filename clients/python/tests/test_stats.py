"""What a client counts of its own work."""

import pickle
import threading

import numpy as np
import pytest
from served import tiles

import restain
from restain import Limits, Stats


def test_requests_tiles_and_bytes_are_counted(serve, sent):
    several = tiles(10, seed=80)
    with restain.Client(serve().url) as client:
        assert client.stats() == Stats()
        made = client.augment(several, variants=3, seed=1)
        first = client.stats()
        # By key, and then as pixels.
        assert (first.requests, first.retries, first.tiles, first.tiles_sent) == (2, 0, 10, 10)
        assert first.bytes_sent == sum(sent.sizes)
        assert made.variants.nbytes < first.bytes_received < 1.2 * made.variants.nbytes
        assert min(first.waiting, first.hashing, first.packing, first.unpacking) > 0
        assert first.pausing == 0
        client.encode([*several, several[0]])
        more = client.stats() - first
        assert (more.requests, more.tiles, more.tiles_sent) == (1, 11, 0)
        assert str(more).startswith("1 requests, 0 retries; 11 tiles, 0 of them sent; 0.0 MB sent, ")
        assert "\n" not in str(more)
        # A copy counts for itself.
        assert pickle.loads(pickle.dumps(client)).stats() == Stats()


def test_a_move_to_another_replica_is_a_retry(replicas):
    servers = replicas(2)
    servers[0].kill()
    with restain.Client([server.url for server in servers]) as client:
        client.augment(tiles(32, seed=81))
        stats = client.stats()
    assert stats.retries == 1
    assert stats.tiles == stats.tiles_sent == 32


def test_threads_lose_no_count(client):
    before, several = client.stats(), tiles(16, seed=82)
    with restain.Client(client.url, limits=Limits(tiles=2)) as other:
        other.augment(several)
        first = other.stats()

        def work():
            for _ in range(5):
                other.augment(several)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        more = other.stats() - first
    assert (more.requests, more.tiles, more.tiles_sent) == (40 * 8, 40 * 16, 0)
    assert client.stats() == before


async def test_the_asynchronous_client_counts_too(server):
    async with restain.AsyncClient(server.url) as client:
        await client.augment(tiles(2, seed=83))
        assert (await client.stats()).tiles == 2


def test_what_fails_is_no_tile(client):
    with pytest.raises(restain.InvalidRequest):
        client.augment(np.zeros((2, 8, 8, 3), np.uint8))
    assert client.stats().tiles == 0
    assert client.stats().requests > 0
