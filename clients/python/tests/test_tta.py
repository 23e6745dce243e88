"""Test-time use over the real server: tiles in one stain, and outputs averaged over several."""

import numpy as np
import pytest
import torch
from PIL import Image
from served import ROOT, SIDE, Served, tiles

import restain
from restain import Style
from restain.tta import StainAverage, normalise


def means(images):
    """A classifier by colour, for arrays [n, H, W, 3] and tensors [n, 3, H, W]: three scores in 0..1."""
    if isinstance(images, torch.Tensor):
        return images.double().mean((2, 3)) / (1 if images.is_floating_point() else 255)
    return images.mean((1, 2)) / 255


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    server = Served(tmp_path_factory.mktemp("demo"), models=ROOT / "models")
    with restain.Client(server.url) as client:
        yield client
    server.kill()


def test_a_domain_is_its_mean_stain_for_every_tile(client):
    several, bank = tiles(3, seed=1), client.style_bank()
    domain = bank.domains[0]
    rows = [place for place, style in enumerate(bank.styles) if style.domain == domain]
    mean = bank.characteristics[rows].mean(0)
    made = normalise(client, several, domain=domain)
    expected = restain.synthesise(client.encode(several), mean, tiles=several)[:, 0]
    # The mean is summed in another order.
    assert np.abs(made.astype(int) - expected).max() <= 1
    assert np.array_equal(made[1], normalise(client, several[1:2], domain=domain)[0])


def test_a_style_is_that_of_the_bank_and_tensors_stay_tensors(client):
    several, style = tiles(2, seed=2), client.style_bank().styles[1].id
    expected = client.augment(several, style=Style(ids=[style]), strength=0.5).variants[:, 0]
    assert np.array_equal(normalise(client, several, style_id=style, strength=0.5), expected)
    tensor = torch.from_numpy(several).permute(0, 3, 1, 2)
    made = normalise(client, tensor / 255, style_id=style, strength=0.5)
    assert made.dtype == torch.float32
    assert np.array_equal((made * 255).round().byte().permute(0, 2, 3, 1).numpy(), expected)


def test_stains_of_one_tile_come_nearer_to_each_other(demo):
    # Tiles as two hospitals would have stained them, brought to a third.
    tissue = [Image.open(ROOT / "docs/tile.png").convert("RGB")]
    stained = [normalise(demo, tissue, domain=domain) for domain in ("centre_0", "centre_3")]
    known = [normalise(demo, tile, domain="centre_4") for tile in stained]
    before, after = (np.abs(a.astype(int) - b).mean() for a, b in (stained, known))
    assert after < before / 5


@pytest.mark.parametrize("kind", ["array", "uint8", "float"])
def test_outputs_are_averaged_over_the_tile_and_its_stains(client, kind):
    several = tiles(5, seed=4)
    variants = client.augment(several, variants=3, seed=11).variants
    views = np.stack([means(several), *(means(variants[:, k]) for k in range(3))])
    given = several if kind == "array" else torch.from_numpy(several).permute(0, 3, 1, 2)
    given = given / 255 if kind == "float" else given
    answer = StainAverage(means, client, stains=3, seed=11, batch_size=2)(given)
    assert isinstance(answer.mean, np.ndarray if kind == "array" else torch.Tensor)
    # Of float32 in 0..1, the mean of a thousand pixels.
    np.testing.assert_allclose(np.asarray(answer.views), views, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.asarray(answer.mean), views.mean(0), rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.asarray(answer.std), views.std(0), rtol=0, atol=1e-6)


def test_named_stains_are_one_view_each(client):
    several, bank = tiles(2, seed=5), client.style_bank()
    by_domain = StainAverage(means, client, domains=bank.domains, original=False)(several)
    expected = [means(normalise(client, several, domain=domain)) for domain in bank.domains]
    assert np.array_equal(by_domain.views, np.stack(expected))
    ids = [style.id for style in bank.styles[:2]]
    by_style = StainAverage(means, client, styles=ids)(several)
    expected = [means(several), *(means(normalise(client, several, style_id=id)) for id in ids)]
    assert np.array_equal(by_style.views, np.stack(expected))


def test_the_same_call_gives_the_same_outputs_and_another_seed_others(client):
    several = tiles(3, seed=6)
    first = StainAverage(means, client, stains=2)(several)
    assert np.array_equal(first.views, StainAverage(means, client, stains=2, batch_size=1)(several).views)
    assert not np.array_equal(first.views, StainAverage(means, client, stains=2, seed=1)(several).views)


def test_a_network_is_called_without_gradients(client):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIDE * SIDE, 2), torch.nn.Softmax(1))
    images = torch.from_numpy(tiles(3, seed=7)).permute(0, 3, 1, 2) / 255
    answer = StainAverage(network, client, stains=2)(images)
    assert answer.mean.shape == (3, 2)
    assert not answer.mean.requires_grad
    torch.testing.assert_close(answer.mean.sum(1), torch.ones(3))
    assert torch.is_grad_enabled()


def test_what_cannot_be_averaged_or_reached_is_refused(client):
    several = tiles(2, seed=8)
    with pytest.raises(ValueError, match="domain is None and style_id is None"):
        normalise(client, several)
    with pytest.raises(ValueError, match="domains and styles are both set"):
        StainAverage(means, client, domains=["south"], styles=["south/0"])
    with pytest.raises(ValueError, match="domains is 'south', and must be a list"):
        StainAverage(means, client, domains="south")
    with pytest.raises(ValueError, match="stains is 0"):
        StainAverage(means, client, stains=0)
    with pytest.raises(restain.RequestError, match="nowhere"):
        normalise(client, several, domain="nowhere")
    with pytest.raises(ValueError, match=r"returned int64 \[2\] for 2 tiles"):
        StainAverage(lambda images: means(images).argmax(1), client)(several)
    with pytest.raises(ValueError, match=r"returned float64 \[3\] for 2 tiles"):
        StainAverage(lambda images: means(images).mean(0), client)(several)
    with pytest.raises(ValueError, match="tiles is empty"):
        StainAverage(means, client)(several[:0])
