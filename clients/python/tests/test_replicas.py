"""A client of several real replicas: what it asks of whom, and what it does when one is away."""

import asyncio
import http.server
import pickle
import socket
import threading
from http.client import HTTPConnection

import numpy as np
import pytest
import trustme
from served import SIDE, tiles

import restain
from restain import Style
from restain import replicas as module
from restain.rendezvous import SHARD_HEADER, owners, shards

MISSES, HITS = "restain_encodings_cache_misses_total", "restain_encodings_cache_hits_total"


def urls(servers):
    return [server.url for server in servers]


@pytest.fixture
def alone(server):
    with restain.Client(server.url) as client:
        yield client


@pytest.fixture
def refusing():
    """The address of somebody who has no room for anything, and how often it said so."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        said = 0

        def do_POST(self):
            Refusing.said += 1
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self):
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", lambda: Refusing.said
        listening.shutdown()
        thread.join()


def test_each_tile_is_encoded_once_where_it_belongs(replicas, alone, count):
    servers, several = replicas(3), tiles(48, seed=1)
    with restain.Client(urls(servers)) as client:
        answer = client.augment(several, variants=2, seed=7)
    with restain.Client(urls(servers)[::-1]) as other:
        again = other.augment(several, variants=2, seed=7)
    expected = alone.augment(several, variants=2, seed=7)
    assert np.array_equal(answer.variants, expected.variants)
    assert np.array_equal(again.variants, expected.variants)
    assert answer.provenance == expected.provenance
    mine = owners([restain.tile_key(tile) for tile in several], sorted(urls(servers)))
    places = [sorted(urls(servers)).index(server.url) for server in servers]
    shares = [int((mine == place).sum()) for place in places]
    assert min(shares) > 0
    assert [count(server, HITS) for server in servers] == shares


def test_answers_come_in_the_order_of_the_tiles_and_no_tile_is_sent_twice(replicas, alone, sent):
    servers, few = replicas(3), tiles(5, seed=2)
    many = few[np.random.default_rng(0).integers(0, 5, 40)]
    with restain.Client(urls(servers)) as client:
        answer = client.augment(many, variants=3, seed=1)
        assert sum(sent.sizes) < 6 * few[0].nbytes
        encodings = client.encode(many)
    expected = alone.augment(many, variants=3, seed=1)
    assert np.array_equal(answer.variants, expected.variants)
    assert answer.provenance == expected.provenance
    one = alone.encode(many)
    assert encodings.keys == one.keys
    assert np.array_equal(encodings.anatomy, one.anatomy)
    assert np.array_equal(encodings.characteristics, one.characteristics)


def test_portions_are_small_enough_for_each_replica(replicas, alone):
    servers, many = replicas(2, "--max-tiles", 8), tiles(60, seed=3)
    out = np.zeros((60, 1, SIDE, SIDE, 3), np.uint8)
    with restain.Client(urls(servers)) as client:
        assert client.augment(many, seed=1, out=out).variants is out
    assert np.array_equal(out, alone.augment(many, seed=1).variants)


def test_what_depends_on_the_whole_request_stays_whole(replicas, alone, count):
    servers, several = replicas(3), tiles(12, seed=4)
    style = Style(source="batch")
    with restain.Client(urls(servers)) as client:
        for _ in range(2):
            answer = client.augment(several, seed=5, style=style)
            assert np.array_equal(answer.variants, alone.augment(several, seed=5, style=style).variants)
    assert sorted(count(server, "restain_tiles_total") for server in servers)[:2] == [0, 0]


@pytest.mark.parametrize("style", [Style(share="request"), Style(references=tiles(2, seed=99)), Style(source="own")])
def test_what_depends_on_seed_and_tile_alone_is_split(replicas, alone, count, style):
    servers, several = replicas(2), tiles(16, seed=5)
    with restain.Client(urls(servers)) as client:
        answer = client.augment(several, variants=2, seed=5, style=style)
    assert np.array_equal(answer.variants, alone.augment(several, variants=2, seed=5, style=style).variants)
    assert all(count(server, "restain_tiles_total") for server in servers)


def test_baselines_are_at_home_everywhere(replicas, alone):
    servers, several = replicas(2), tiles(4, seed=6)
    with restain.Client(urls(servers)) as client:
        for _ in range(4):
            made = client.augment(several, seed=5, method="color-match").variants
            assert np.array_equal(made, alone.augment(several, seed=5, method="color-match").variants)


def test_a_dead_replica_is_replaced_and_has_its_tiles_again_when_it_is_back(replicas, count, until):
    servers, several = replicas(3), tiles(48, seed=7)
    dead, others = servers[0], servers[1:]
    with restain.Client(urls(servers)) as client:
        before = client.augment(several, seed=1)
        misses = [count(server, MISSES) for server in servers]
        dead.kill()
        for _ in range(2):
            assert np.array_equal(client.augment(several, seed=1).variants, before.variants)
        # The others have encoded what was the dead one's, once, and nothing of their own again.
        more = [count(server, MISSES) - had for server, had in zip(others, misses[1:], strict=True)]
        assert min(more) > 0
        dead.start()

        def is_back():
            assert np.array_equal(client.augment(several, seed=1).variants, before.variants)
            return count(dead, MISSES) > 0

        until(is_back)
        client.augment(several, seed=1)
        assert [count(server, MISSES) - had for server, had in zip(others, misses[1:], strict=True)] == more


def test_no_call_fails_while_replicas_are_killed_under_load(replicas, alone, until):
    servers = replicas(3)
    batches = [tiles(16, seed=seed) for seed in range(30, 36)]
    expected = [alone.augment(batch, seed=3).variants for batch in batches]
    is_over, failures, rounds = threading.Event(), [], [0] * 4
    with restain.Client(urls(servers), timeout=60) as client:

        def work(place):
            while not is_over.is_set():
                for batch, made in zip(batches, expected, strict=True):
                    try:
                        assert np.array_equal(client.augment(batch, seed=3).variants, made)
                    except Exception as error:
                        failures.append(error)
                rounds[place] += 1

        threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
        for thread in threads:
            thread.start()
        for server in (servers[0], servers[2], servers[0]):
            seen = list(rounds)
            until(lambda seen=seen: all(now > then for now, then in zip(rounds, seen, strict=True)))
            server.kill()
            seen = list(rounds)
            until(lambda seen=seen: all(now > then + 1 for now, then in zip(rounds, seen, strict=True)))
            server.start()
        is_over.set()
        for thread in threads:
            thread.join()
    assert not failures


def test_a_replica_that_refuses_is_left_out_for_as_long_as_it_is_not_ready(serve, refusing, monkeypatch):
    address, said = refusing
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)
    several = tiles(32, seed=8)
    with restain.Client([serve().url, address]) as client:
        client.augment(several, seed=1)
        assert said() == 1
        for _ in range(3):
            client.augment(several, seed=1)
        assert said() == 1
        assert client.ready()
        assert client.models()[0].name == "tiny"


def test_a_call_outlasts_a_time_without_any_replica(replicas):
    servers, several = replicas(2), tiles(8, seed=9)
    with restain.Client(urls(servers), timeout=60) as client:
        before = client.augment(several, seed=3).variants
        for server in servers:
            server.kill()
        assert not client.ready()
        answers = []
        calling = threading.Thread(target=lambda: answers.append(client.augment(several, seed=3).variants))
        calling.start()
        servers[1].start()
        calling.join()
        assert np.array_equal(answers[0], before)


def test_without_any_replica_it_is_unavailable_or_originals(replicas):
    servers, several = replicas(2), tiles(8, seed=10)
    for server in servers:
        server.kill()
    with restain.Client(urls(servers), timeout=0.5) as client:
        with pytest.raises(restain.Unavailable, match="takes no connection"):
            client.augment(several)
        with pytest.raises(restain.Unavailable, match="takes no connection"):
            client.models()
    with restain.Client(urls(servers), timeout=0.5, on_error="original") as client:
        with pytest.warns(RuntimeWarning, match="originals stand in"):
            answer = client.augment(several, variants=2)
        assert answer.failed.all()
        assert np.array_equal(answer.variants, np.repeat(several[:, None], 2, axis=1))
        keys = [restain.tile_key(tile).hex() for tile in several]
        assert [records[0].tile_key for records in answer.provenance] == keys


def test_a_name_leads_to_all_its_addresses_and_is_looked_up_again(named, alone, count, monkeypatch, until):
    monkeypatch.setattr(module, "LOOKUP_EVERY", 0.0)
    servers, several = named.start(2), tiles(48, seed=11)
    named.found = ["127.0.0.1", "127.0.0.2"]
    expected = alone.augment(several, seed=1).variants
    with restain.Client(named.url, spread="dns") as client:

        def is_used(server):
            assert np.array_equal(client.augment(several, seed=1).variants, expected)
            return count(server, "restain_tiles_total") > 0

        assert is_used(servers[0])
        assert is_used(servers[1])
        # A replica more.
        named.start(1)
        named.found = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        until(lambda: is_used(servers[2]))
        # One less, and name servers that have nothing to say for a while.
        servers[0].kill()
        for found in (["127.0.0.2", "127.0.0.3"], []):
            named.found = found
            for _ in range(5):
                assert is_used(servers[1])


def test_a_name_that_has_no_address_yet_is_waited_for(named):
    named.start(1)
    with restain.Client(named.url, spread="dns", timeout=60) as client:
        with pytest.raises(restain.Unavailable, match="takes no connection"):
            client.augment(tiles(1), timeout=0.2)
        named.found = ["127.0.0.1"]
        assert client.augment(tiles(1)).variants.shape == (1, 1, SIDE, SIDE, 3)


def test_what_is_asked_for_by_name_stays_the_name(named, monkeypatch):
    asked, put = [], HTTPConnection.putheader
    monkeypatch.setattr(HTTPConnection, "putheader", lambda self, *row: (asked.append(row), put(self, *row))[1])
    named.start(1)
    named.found = ["127.0.0.1"]
    with restain.Client(named.url, spread="dns") as client:
        client.models()
    assert [row[1] for row in asked if row[0] == "Host"] == [f"{named.name}:{named.port}"]


@pytest.mark.parametrize("certified", ["replicas.test", "elsewhere.test"])
def test_a_certificate_is_the_names_and_no_address_is_in_it(named, tmp_path, certified):
    authority = trustme.CA()
    issued = authority.issue_cert(certified)
    authority.cert_pem.write_to_path(tmp_path / "root.pem")
    issued.private_key_pem.write_to_path(tmp_path / "tls.key")
    (tmp_path / "tls.crt").write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    named.start(2, "--tls-cert", tmp_path / "tls.crt", "--tls-key", tmp_path / "tls.key")
    named.found = ["127.0.0.1", "127.0.0.2"]
    with restain.Client(named.url, spread="dns", ca_certs=str(tmp_path / "root.pem")) as client:
        if certified == named.name:
            assert client.augment(tiles(16, seed=16)).variants.shape == (16, 1, SIDE, SIDE, 3)
            assert client.ready()
        else:
            with pytest.raises(restain.Unavailable, match=r"elsewhere\.test"):
                client.augment(tiles(16), timeout=0.5)
            assert not client.ready()


def test_what_changes_a_server_changes_every_replica(replicas):
    servers = replicas(2)
    with restain.Client(urls(servers)) as client:
        client.add_styles("ours", tiles(8, seed=17), styles=2)
        for server in servers:
            with restain.Client(server.url) as one:
                assert "ours" in [domain.domain for domain in one.styles().domains]
        client.augment(tiles(16, seed=12), style=Style(domains=["ours"]))
        client.remove_styles("ours")
        with pytest.raises(restain.NotFound):
            client.remove_styles("ours")
    gateway = restain.Client(servers[0].url, spread="gateway")
    with gateway as client, pytest.raises(restain.InvalidRequest, match="behind_gateway"):
        client.add_styles("ours", tiles(8, seed=17))


def test_behind_a_gateway_each_request_says_its_shard(server, alone, monkeypatch):
    from restain.transport import Transport

    said, send, several = [], Transport.send, tiles(40, seed=13)

    def watched(self, method, path, body, headers, *rest):
        said.append(headers.get(SHARD_HEADER))
        return send(self, method, path, body, headers, *rest)

    monkeypatch.setattr(Transport, "send", watched)
    with restain.Client(server.url, spread="gateway", shards=8) as client:
        answer = client.augment(several, seed=1)
        every = shards([restain.tile_key(tile) for tile in several], 8)
        assert set(said) == {str(shard) for shard in every}
        del said[:]
        client.augment(several, seed=1)
        assert len(said) == len(set(every.tolist()))
        del said[:]
        client.augment(several, seed=1, style=Style(source="batch"))
        assert set(said) == {str(every[0])}
        del said[:]
        client.augment(several, method="identity")
        client.models()
        assert said == [None, None]
    assert np.array_equal(answer.variants, alone.augment(several, seed=1).variants)


async def test_the_asynchronous_client_spreads_too(replicas, alone):
    servers = replicas(2)
    batches = [tiles(8, seed=seed) for seed in range(40, 44)]
    async with restain.AsyncClient(urls(servers)) as client:
        servers[0].kill()
        answers = await asyncio.gather(*(client.augment(batch, seed=1) for batch in batches))
    for batch, answer in zip(batches, answers, strict=True):
        assert np.array_equal(answer.variants, alone.augment(batch, seed=1).variants)


def test_a_pickled_client_knows_its_replicas(replicas, alone):
    servers, several = replicas(2), tiles(8, seed=14)
    with restain.Client(urls(servers)) as client, pickle.loads(pickle.dumps(client)) as copied:
        assert copied.url == tuple(urls(servers))
        assert np.array_equal(copied.augment(several, seed=1).variants, alone.augment(several, seed=1).variants)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_data_set_is_the_same_from_replicas_as_from_one_server(replicas, alone):
    import torch
    from torch.utils.data import DataLoader

    from restain.torch import RestainDataset

    servers = replicas(2)
    samples = [(tile, label) for label, tile in enumerate(tiles(24, seed=15))]

    def batches(client, workers):
        made = RestainDataset(samples, client, batch_size=6, seed=3)
        return list(DataLoader(made, batch_size=None, num_workers=workers))

    with restain.Client(urls(servers)) as client:
        spread = batches(client, 2)
        servers[1].kill()
        left = batches(client, 2)
    for (images, labels), (other, _), (third, _) in zip(batches(alone, 0), spread, left, strict=True):
        assert torch.equal(images, other)
        assert torch.equal(images, third)
        assert len(labels) == 12


def test_what_cannot_be_spread_is_refused():
    with pytest.raises(ValueError, match="spread"):
        restain.Client("http://a", spread="ring")
    with pytest.raises(ValueError, match="list of addresses"):
        restain.Client(["http://a"], spread="dns")
    with pytest.raises(ValueError, match="list of addresses"):
        restain.Client([])
    with pytest.raises(ValueError, match="shards"):
        restain.Client("http://a", spread="gateway", shards=2000)


def test_a_machine_that_vanished_is_noticed(server):
    with restain.Client(server.url) as client:
        client.models()
        connection = client._replicas.every()[0].transport._pool._get_conn()
        assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
        connection.close()
