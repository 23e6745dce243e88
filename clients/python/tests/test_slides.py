"""Slides: added from tiles, named for a call or for each tile."""

import asyncio

import numpy as np
import pytest
from served import SIDE, tiles

import restain
from restain import Style
from restain.carry import keep_glass

NORTH = Style(ids=["north/0"])


@pytest.fixture
def two(client):
    """The ids of two slides."""
    ids = [client.add_slide(tiles(4, seed=seed)) for seed in (31, 32)]
    yield ids
    for slide in ids:
        client.remove_slide(slide)


def test_a_slide_is_added_listed_and_removed(client):
    several = tiles(3, seed=30)
    slide = client.add_slide(several)
    assert client.add_slide(several[::-1]) == slide
    assert slide in client.slides()
    sizes = [tiles(1, seed=33)[0], tiles(1, 48, seed=34)[0]]
    other = client.add_slide(sizes)
    assert other != slide
    for each in (slide, other):
        client.remove_slide(each)
    assert slide not in client.slides()
    with pytest.raises(restain.InvalidRequest, match="slide") as refused:
        client.augment(tiles(1), slide=slide)
    assert refused.value.code == "unknown_slide"


def test_tiles_of_several_slides_are_those_of_each_slide(client, two):
    several = tiles(6, seed=35)
    slides = [two[place % 2] for place in range(6)]
    answer = client.augment(several, variants=2, seed=3, style=NORTH, slide=slides)
    for place, tile in enumerate(several):
        alone = client.augment(tile, variants=2, seed=3, style=NORTH, slide=slides[place])
        assert np.array_equal(answer.variants[place], alone.variants[0])
        assert answer.provenance[place] == alone.provenance[0]
        assert answer.provenance[place][0].slide == slides[place]
    # The same tile from two slides is not one tile.
    same = client.augment(np.repeat(several[:1], 2, axis=0), seed=3, style=NORTH, slide=two)
    assert not np.array_equal(same.variants[0], same.variants[1])
    out = np.zeros((6, 2, SIDE, SIDE, 3), np.uint8)
    filled = client.augment(several, variants=2, seed=3, style=NORTH, slide=slides, out=out)
    assert filled.variants is out
    assert np.array_equal(out, answer.variants)


def test_tiles_of_several_sizes_have_slides_too(client, two):
    several = [tiles(1, side, seed=side)[0] for side in (40, 32, 64)]
    answer = client.augment(several, seed=1, style=NORTH, slide=[two[0], two[1], two[0]])
    for place, tile in enumerate(several):
        alone = client.augment([tile], seed=1, style=NORTH, slide=two[place % 2])
        assert np.array_equal(answer.variants[place], alone.variants[0])


def test_asyncio_has_slides(server):
    async def added():
        async with restain.AsyncClient(server.url) as client:
            slide = await client.add_slide(tiles(2, seed=36))
            made = await client.augment(tiles(1), slide=slide, seed=1)
            assert slide in await client.slides()
            await client.remove_slide(slide)
            return slide, made

    slide, made = asyncio.run(added())
    assert made.provenance[0][0].slide == slide


def test_slides_that_do_not_fit_the_tiles_are_explained(client, two):
    with pytest.raises(ValueError, match="slide has 2 ids for 3 tiles, and must be one id or one for each tile"):
        client.augment(tiles(3), slide=two)
    with pytest.raises(ValueError, match="styles from the batch"):
        client.augment(tiles(2), slide=two, style=Style(source="batch"))


def test_glass_changes_by_three_levels_at_most(client):
    tile = tiles(1, seed=37)[0]
    tile[: SIDE // 2] = 241
    variant = client.augment(tile[None], seed=1).variants[0, 0]
    change = np.abs(variant.astype(int) - tile)
    assert change[: SIDE // 2].max() <= 3 < change[SIDE // 2 :].max()
    # In part: halfway in luminance, and in chroma.
    grey, tint = np.full((1, 1, 3), 222, np.uint8), np.uint8([[[250, 222, 240]]])
    assert keep_glass(grey, np.uint8([[[182, 222, 242]]])).tolist() == [[[201, 222, 234]]]
    assert keep_glass(tint, np.uint8([[[200, 222, 240]]]))[0, 0, 0] not in (200, 247)
