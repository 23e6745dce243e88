"""A real HAProxy with the file of deploy/haproxy before real servers: who gets which tiles."""

import re
import socket
import subprocess

import numpy as np
import pytest
import required
from served import ROOT, tiles

import restain
from restain.rendezvous import shards

CONFIGURATION = ROOT / "deploy/haproxy/haproxy.cfg"


def here(text, port, servers):
    """The part for HTTP, with these servers in place of those that a name has in a cluster."""
    http = text[: text.index("\nfrontend grpc")] + text[text.index("\nbackend http") : text.index("\nbackend grpc")]
    replicas = "\n".join(f"    server replica{n} {server.http} check" for n, server in enumerate(servers, 1))
    http, changed = re.subn(r"^    server-template .*$", replicas, http, flags=re.MULTILINE)
    assert changed == 1
    http, changed = re.subn(r"^    bind :8080$", f"    bind fd@{port}", http, flags=re.MULTILINE)
    assert changed == 1
    return http


@pytest.fixture
def haproxy():
    """The path of the program."""
    return required.program("haproxy", "haproxy")


@pytest.fixture
def proxied(haproxy, tmp_path):
    """Starts a proxy in front of servers; returns its URL."""
    running = []

    def start(servers):
        # The proxy takes over a socket that listens already: its port is nobody else's, and no call comes too early.
        with socket.create_server(("127.0.0.1", 0)) as listening, open(tmp_path / "log", "ab") as log:
            file = tmp_path / "haproxy.cfg"
            file.write_text(here(CONFIGURATION.read_text(), listening.fileno(), servers))
            command = [haproxy, "-db", "-f", str(file)]
            running.append(subprocess.Popen(command, pass_fds=[listening.fileno()], stdout=log, stderr=log))
            return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    for proxy in running:
        proxy.terminate()
        proxy.wait()


def test_the_file_is_valid(haproxy):
    checked = subprocess.run([haproxy, "-c", "-f", str(CONFIGURATION)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "warning" not in checked.stderr.lower()


def test_equal_shards_go_to_the_same_replica(replicas, proxied, count, server):
    servers, several = replicas(3), tiles(64, seed=1)
    url = proxied(servers)
    with restain.Client(server.url) as alone:
        expected = alone.augment(several, seed=1).variants
    made = []
    for _ in range(3):
        # Three clients that know nothing of each other.
        with restain.Client(url, spread="gateway") as client:
            made.append(client.augment(several, seed=1).variants)
    assert all(np.array_equal(variants, expected) for variants in made)
    hits = [count(each, "restain_encodings_cache_hits_total") for each in servers]
    # Nothing was encoded twice, and everybody has something: shards are 32, more than chance leaves out one of three.
    assert sum(hits) == 2 * len(several)
    assert min(hits) > 0


def test_without_shards_tiles_are_encoded_again(replicas, proxied, count):
    servers, several = replicas(3), tiles(8, seed=2)
    with restain.Client(proxied(servers)) as client:
        for tile in several:
            for _ in range(3):
                client.augment(tile, seed=1)
    # By whoever's turn it was: what shards are for.
    assert sum(count(each, "restain_batch_tiles_sum") for each in servers) > len(several)


def test_a_dead_replica_costs_no_call_and_moves_only_its_own(replicas, proxied, count, until):
    servers, several = replicas(3), tiles(64, seed=3)
    dead, others = servers[0], servers[1:]
    encoded = "restain_encodings_cache_misses_total"
    with restain.Client(proxied(servers), spread="gateway", timeout=60) as client:
        before = client.augment(several, seed=1).variants
        held, had = count(dead, "restain_tiles_total"), [count(each, encoded) for each in others]
        dead.kill()
        for _ in range(3):
            assert np.array_equal(client.augment(several, seed=1).variants, before)
        more = sum(count(each, encoded) for each in others) - sum(had)
        assert 0 < held <= more
        assert more < 2 * len(several) - held
        dead.start()

        def is_back():
            assert np.array_equal(client.augment(several, seed=1).variants, before)
            return count(dead, "restain_tiles_total") > 0

        until(is_back)


def test_shards_of_a_call_are_as_many_requests(replicas, proxied, count):
    servers, several = replicas(2), tiles(32, seed=4)
    with restain.Client(proxied(servers), spread="gateway", shards=4) as client:
        client.augment(several, seed=1)
        before = sum(count(each, "restain_requests_total") for each in servers)
        client.augment(several, seed=1)
    asked = sum(count(each, "restain_requests_total") for each in servers) - before
    assert asked >= len(set(shards([restain.tile_key(tile) for tile in several], 4).tolist())) == 4
