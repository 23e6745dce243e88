"""The client against the real server: tiles, keys, styles, models, and what is refused."""

import asyncio
import pickle
import threading

import numpy as np
import pytest
from PIL import Image
from served import SIDE, install, tiles

import restain
from restain import Limits, Part, Style


def test_variants_come_in_the_order_of_the_tiles(client):
    several = tiles(5, seed=1)
    answer = client.augment(several, variants=3, seed=7)
    assert answer.variants.shape == (5, 3, SIDE, SIDE, 3)
    assert answer.variants.flags.writeable
    for place, tile in enumerate(several):
        alone = client.augment(tile, variants=3, seed=7)
        assert np.array_equal(answer.variants[place], alone.variants[0])
        assert answer.provenance[place] == alone.provenance[0]


def test_provenance_says_how_each_variant_came_to_be(client):
    tile = tiles(1, seed=2)
    answer = client.augment(tile, variants=2, seed=11, style=Style(domains=["south"]))
    assert [record.index for record in answer.provenance[0]] == [0, 1]
    record = answer.provenance[0][1]
    assert (record.model, record.version, record.seed, record.method) == ("tiny", "1", 11, "vit")
    assert (record.domain, record.tile_key) == ("south", restain.tile_key(tile[0]).hex())
    assert record.style.startswith("south/")
    assert answer.timings[0].total_ms > 0
    assert not answer.failed.any()


def test_a_seed_that_was_drawn_is_told_and_gives_the_same_again(client):
    first = client.augment(tiles(2, seed=3))
    assert first.seed != client.augment(tiles(2, seed=3)).seed
    again = client.augment(tiles(2, seed=3), seed=first.seed)
    assert np.array_equal(first.variants, again.variants)


def test_tiles_may_be_a_list_of_pictures(client):
    several = tiles(3, seed=4)
    pictures = [Image.fromarray(tile) for tile in several]
    assert np.array_equal(client.augment(pictures, seed=1).variants, client.augment(several, seed=1).variants)


def test_memory_of_the_callers_own_is_filled(client):
    several = tiles(3, seed=5)
    out = np.zeros((3, 2, SIDE, SIDE, 3), np.uint8)
    answer = client.augment(several, variants=2, seed=1, out=out)
    assert answer.variants is out
    assert np.array_equal(out, client.augment(several, variants=2, seed=1).variants)
    with pytest.raises(ValueError, match=r"out is uint8 \[3, 2, 32, 32, 3\], and must be uint8 \[3, 1"):
        client.augment(several, out=out)


def test_a_second_time_no_pixels_are_sent(serve, sent, count):
    server = serve()
    several = tiles(8, seed=6)
    with restain.Client(server.url) as client:
        first = client.augment(several, seed=1)
        assert sum(sent.sizes) > several.nbytes
    del sent.sizes[:]
    # Another client, as in another worker of the next epoch.
    with restain.Client(server.url) as client:
        again = client.augment(several, seed=1)
    assert len(sent.sizes) == 1
    assert sent.sizes[0] < several.nbytes / 20
    assert count(server, "restain_encodings_cache_hits_total") == 8
    assert np.array_equal(first.variants, again.variants)


def test_only_what_is_missing_is_sent_and_each_tile_once(serve, sent):
    server = serve()
    known, new = tiles(6, seed=7), tiles(2, seed=8)
    with restain.Client(server.url) as client:
        client.augment(known)
        mixed = np.stack([known[3], new[0], known[0], new[1], new[0], known[3]])
        del sent.sizes[:]
        answer = client.augment(mixed, variants=2, seed=1)
        assert 2 * new[0].nbytes < sum(sent.sizes) < 3 * new[0].nbytes
        for place, tile in enumerate(mixed):
            assert np.array_equal(answer.variants[place], client.augment(tile, variants=2, seed=1).variants[0])
            assert answer.provenance[place][0].tile_key == restain.tile_key(tile).hex()


def test_a_restarted_server_is_served_again(serve):
    server = serve()
    several = tiles(4, seed=9)
    with restain.Client(server.url, timeout=30) as client:
        before = client.augment(several, seed=2)
        server.kill()
        server.start()
        after = client.augment(several, seed=2)
    assert np.array_equal(before.variants, after.variants)


def test_a_call_outlasts_a_restart(serve):
    server = serve()
    several = tiles(4, seed=10)
    with restain.Client(server.url, timeout=60) as client:
        before = client.augment(several, seed=3)
        server.kill()
        answers = []
        calling = threading.Thread(target=lambda: answers.append(client.augment(several, seed=3)))
        calling.start()
        server.start()
        calling.join()
    assert np.array_equal(before.variants, answers[0].variants)


def test_calls_larger_than_the_server_takes_are_sent_in_portions(serve):
    server = serve("--max-tiles", 16)
    many = tiles(70, seed=11)
    with restain.Client(server.url) as client:
        # The server's limit is not known, and found.
        answer = client.augment(many, variants=2, seed=4)
        encodings = client.encode(many)
    with restain.Client(server.url, limits=Limits(tiles=9)) as client:
        portioned = client.augment(many, variants=2, seed=4)
    assert len(portioned.timings) == 8
    assert np.array_equal(answer.variants, portioned.variants)
    assert answer.provenance == portioned.provenance
    keys = [restain.tile_key(tile).hex() for tile in many]
    assert [records[0].tile_key for records in answer.provenance] == keys
    assert list(encodings.keys) == keys


def test_styles_of_the_batch_depend_on_the_request_alone(serve):
    server = serve()
    several, style = tiles(5, seed=12), Style(source="batch")
    with restain.Client(server.url) as client:
        cold = client.augment(several, seed=5, style=style)
        client.augment(tiles(2, seed=13))
        half_known = np.concatenate([tiles(2, seed=13), several[:2]])
        assert np.array_equal(client.augment(several, seed=5, style=style).variants, cold.variants)
        first = client.augment(half_known[[0, 2, 1, 3]], seed=5, style=style)
        assert np.array_equal(client.augment(half_known[[0, 2, 1, 3]], seed=5, style=style).variants, first.variants)


def test_baselines_and_references_get_pixels(client):
    several = tiles(3, seed=14)
    assert np.array_equal(client.augment(several, method="identity").variants[:, 0], several)
    assert client.augment(several, method="color-match", seed=1).provenance[0][0].method == "color-match"
    style = Style(references=tiles(2, seed=15))
    for _ in range(2):
        answer = client.augment(several, style=style, seed=1)
        assert all(records[0].style.startswith("reference/") for records in answer.provenance)


def test_a_tile_of_another_size_keeps_its_size_and_a_side_has_bounds(client):
    with pytest.raises(restain.InvalidRequest) as refused:
        client.augment(tiles(2, side=15, seed=16))
    error = refused.value
    assert (error.code, error.status, error.list, error.index) == ("tile_size", 422, "tile", 0)
    assert "from 16 to 8192 pixels a side" in error.detail
    small = tiles(2, side=SIDE // 2, seed=16)
    for _ in range(2):
        answer = client.augment(small)
        assert answer.variants.shape == (2, 1, SIDE // 2, SIDE // 2, 3)
        assert answer.provenance[0][0].detail == "carry"
        assert answer.provenance[0][0].fidelity > 0
        assert 0 <= answer.provenance[0][0].clipped < 1
    assert np.array_equal(client.augment(small, strength=0).variants[:, 0], small)


def test_what_is_wrong_raises_by_its_kind_and_survives_pickling(client):
    with pytest.raises(restain.InvalidRequest, match=r"unknown_domain: .*north, south, west"):
        client.augment(tiles(1), style=Style(domains=["east"]))
    with pytest.raises(restain.NotFound, match="model_not_found"):
        client.augment(tiles(1), model="nobody")
    with pytest.raises(restain.RequestError) as refused:
        client.augment(tiles(1), variants=1000)
    copied = pickle.loads(pickle.dumps(refused.value))
    assert (type(copied), str(copied), copied.status) == (restain.InvalidRequest, str(refused.value), 422)


def test_what_is_no_tile_is_refused_before_anything_is_sent(client, sent):
    for wrong in (np.zeros((2, 32, 32, 3)), np.zeros((32, 32), np.uint8), np.zeros((0, 32, 32, 3), np.uint8), []):
        with pytest.raises(ValueError, match="tile"):
            client.augment(wrong)
    assert not sent.sizes


def test_domains_are_added_used_and_removed(serve):
    with restain.Client(serve().url) as client:
        added = client.add_styles("ours", tiles(8, seed=17), styles=2)
        assert (added.domain, added.origin) == ("ours", "added")
        assert [domain.domain for domain in client.styles().domains] == ["north", "south", "west", "ours"]
        answer = client.augment(tiles(1), style=Style(domains=["ours"]), seed=1)
        assert answer.provenance[0][0].domain == "ours"
        with pytest.raises(restain.Conflict, match="domain_exists"):
            client.add_styles("ours", tiles(8, seed=17))
        client.remove_styles("ours")
        with pytest.raises(restain.NotFound, match="domain_not_found"):
            client.remove_styles("ours")


def test_models_are_listed_loaded_and_unloaded(serve):
    server = serve()
    install(server.models, "tiny", "2")
    with restain.Client(server.url) as client:
        assert [(model.version, model.state) for model in client.models()] == [("1", "ready")]
        assert client.load_model("tiny", version="2").version == "2"
        assert client.augment(tiles(1), model="tiny/2").provenance[0][0].version == "2"
        assert client.unload_model("tiny", version="2") == ("tiny/2",)
        with pytest.raises(restain.NotFound):
            client.load_model("nobody")


def test_a_client_that_was_pickled_works(server):
    with restain.Client(server.url, model="tiny", on_error="original") as client:
        copied = pickle.loads(pickle.dumps(client))
        with copied:
            assert (copied.model, copied.on_error) == ("tiny", "original")
            assert np.array_equal(copied.augment(tiles(1), seed=1).variants, client.augment(tiles(1), seed=1).variants)


def test_threads_share_a_client(client):
    several = [tiles(4, seed=seed) for seed in range(8)]
    made = [None] * 8

    def work(place):
        made[place] = client.augment(several[place], seed=place).variants

    threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place in range(8):
        assert np.array_equal(made[place], client.augment(several[place], seed=place).variants)


def test_a_client_that_was_closed_opens_again(server):
    client = restain.Client(server.url)
    before = client.augment(tiles(1), seed=1)
    client.close()
    with client:
        assert np.array_equal(client.augment(tiles(1), seed=1).variants, before.variants)


async def test_the_asynchronous_client_does_the_same(client):
    async with restain.AsyncClient(client.url) as other:
        batches = [tiles(3, seed=seed) for seed in range(20, 26)]
        answers = await asyncio.gather(*(other.augment(batch, variants=2, seed=1) for batch in batches))
        for batch, answer in zip(batches, answers, strict=True):
            assert np.array_equal(answer.variants, client.augment(batch, variants=2, seed=1).variants)
        assert await other.ready()
        assert (await other.styles()).model == "tiny"
        with pytest.raises(restain.InvalidRequest, match="unknown_domain"):
            await other.augment(tiles(1), style=Style(domains=["east"]))


def test_a_blend_is_said_in_parts(client):
    style = Style(blend=[Part(1, id="north/0"), Part(3, domain="west")])
    record = client.augment(tiles(1), style=style, seed=1).provenance[0][0]
    assert record.style.startswith("north/0*0.25+west/")
