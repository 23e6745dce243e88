"""Rendezvous hashing: even shares, the same owner for all clients, and few tiles that move."""

import numpy as np
from blake3 import blake3
from served import ROOT

from restain.rendezvous import SHARD_HEADER, owners, shards

KEYS = [blake3(str(number).encode()).digest() for number in range(20_000)]
EIGHT = [f"http://10.0.0.{number}:8080" for number in range(8)]


def test_every_replica_has_its_share():
    counts = np.bincount(owners(KEYS, EIGHT), minlength=8)
    # 2,500 each, give or take 47: a tenth is five times that.
    assert counts.min() > 2250
    assert counts.max() < 2750


def test_when_a_replica_goes_only_its_tiles_move_and_evenly():
    before, after = owners(KEYS, EIGHT), owners(KEYS, EIGHT[:-1])
    stayed = before < 7
    assert np.array_equal(before[stayed], after[stayed])
    moved = np.bincount(after[~stayed], minlength=7)
    # 357 each, give or take 18.
    assert moved.min() > 267
    assert moved.max() < 447


def test_the_order_of_the_addresses_decides_nothing():
    turned = EIGHT[3:] + EIGHT[:3]
    here, there = owners(KEYS, EIGHT), owners(KEYS, turned)
    assert [EIGHT[place] for place in here] == [turned[place] for place in there]


def heaviest(key):
    """The owner by the definition, in Python's integers: the highest SplitMix64 of key and address."""

    def weight(address):
        word = int.from_bytes(key[:8], "little") ^ int.from_bytes(blake3(address.encode()).digest()[:8], "little")
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
        return word ^ (word >> 31)

    return max(range(len(EIGHT)), key=lambda place: weight(EIGHT[place]))


def test_owners_are_the_same_in_every_process_and_release():
    # The list is what `heaviest` gave for 0.1.0; another one would move tiles between the replicas of running fleets.
    assert owners(KEYS[:12], EIGHT).tolist() == [7, 0, 6, 0, 2, 7, 0, 4, 0, 5, 3, 2]
    assert owners(KEYS[:500], EIGHT).tolist() == [heaviest(key) for key in KEYS[:500]]


def test_a_shard_is_the_first_ten_bits_of_a_key():
    keys = [bytes([0b11111111, 0b11000000, 7]), bytes([0, 0b01111111, 7]), bytes([0b00000001, 0b10000000, 7])]
    assert shards(keys, 1024).tolist() == [1023, 1, 6]
    assert shards(keys, 32).tolist() == [31, 1, 6]
    assert shards(keys, 5).tolist() == [3, 1, 1]


def test_shards_are_even():
    counts = np.bincount(shards(KEYS, 32), minlength=32)
    # 625 each, give or take 25.
    assert counts.min() > 500
    assert counts.max() < 750


def test_gateways_hash_the_header_that_the_client_sends():
    envoy = (ROOT / "deploy/kustomize/components/gateway/shards.yaml").read_text()
    assert f"type: Header\n      header:\n        name: {SHARD_HEADER}\n" in envoy
    assert f"balance hdr({SHARD_HEADER})\n" in (ROOT / "deploy/haproxy/haproxy.cfg").read_text()
