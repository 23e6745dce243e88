"""A model whose styles have a bias: everything that makes a variant adds it, and all of them alike."""

import subprocess

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from served import FIXTURE, TARGET, Served, environment, tiles

import restain
import restain.torch as restain_torch
from restain.torch.synth import apply_styles

PATCH, HALF = 8, 24


@pytest.fixture(scope="module")
def biased(tmp_path_factory):
    """A server of the small fixture's weights with a style bias of random numbers."""
    home = tmp_path_factory.mktemp("biased")
    random, weights = np.random.default_rng(11), load_file(FIXTURE / "weights.safetensors")
    weights["style_bias.weight"] = random.normal(0, 0.2, (3 * PATCH, HALF)).astype(np.float32)
    weights["style_bias.bias"] = random.normal(0, 0.5, 3 * PATCH).astype(np.float32)
    save_file(weights, home / "weights.safetensors")
    phantom = "phantom --out tiles --tiles-per-domain 6 --hospitals 2 --size 48 --seed 3"
    imported = "--num-heads 4 --image-size 32 --mean .7,.6,.7 --std .2,.2,.2 --pixel-order planar --data tiles"
    for words in (phantom, f"import weights.safetensors {imported} --out models/biased/1"):
        command = [str(TARGET / "debug/restain-train"), *words.split()]
        subprocess.run(command, cwd=home, env=environment(), check=True, capture_output=True, timeout=300)
    server = Served(home, models=home / "models")
    with restain.Client(server.url) as client:
        yield client
    server.kill()


def by_torch(encodings, styles, strength=1.0, tiles=None):
    return restain_torch.synthesise(encodings, styles, strength, tiles=tiles).permute(0, 1, 3, 4, 2).numpy()


def test_lengths_are_told_where_they_are_needed(biased):
    encodings, bank = biased.encode(tiles(2, seed=1)), biased.style_bank()
    assert encodings.model.style_bias
    assert encodings.model.style_length == HALF + 3 * PATCH
    assert encodings.anatomy.shape[2] == HALF
    assert encodings.characteristics.shape[2] == HALF + 3 * PATCH
    assert bank.characteristics.shape[1] == HALF + 3 * PATCH
    # It is no constant of the model: other tissue, another bias.
    assert len(np.unique(bank.characteristics[:, HALF:], axis=0)) > 1
    [model] = biased.models()
    assert model.geometry["style_bias"] is True


@pytest.mark.parametrize("synthesise", [restain.synthesise, by_torch])
@pytest.mark.parametrize("size", [(32, 32), (70, 90), (300, 200)])
def test_variants_made_here_are_the_servers(biased, synthesise, size):
    several = np.random.default_rng(3).integers(60, 220, (2, *size, 3), np.uint8)
    bank, encodings = biased.style_bank(), biased.encode(several)
    for style in (bank.styles[0].id, bank.styles[-1].id):
        for strength in (1.0, 0.4, 0.0):
            named = restain.Style(ids=[style])
            wanted = biased.augment(several, style=named, strength=strength).variants
            assert np.array_equal(synthesise(encodings, bank[style], strength, tiles=several), wanted), strength
            # The client sends the keys of tiles that the server knows: only what is kept of them is left.
            kept = biased.augment(several, style=named, strength=strength).variants
            assert np.array_equal(kept, wanted)
    bare = biased.encode(several, detail="model")
    wanted = biased.augment(several, style=restain.Style(ids=[style]), detail="model").variants
    assert np.array_equal(synthesise(bare, bank[style]), wanted)
    without = bank[style].copy()
    without[HALF:] = 0
    assert not np.array_equal(synthesise(bare, without), wanted)


def test_patches_of_other_tiles_and_of_the_tile_itself_have_theirs(biased):
    several = tiles(3, seed=5)
    encodings = biased.encode(several)
    aligned = restain.Style(source="own", placement="aligned")
    own = biased.augment(several, style=aligned, detail="model").variants[:, 0]
    assert np.array_equal(own, restain.reconstruct(encodings))
    answer = biased.augment(several, variants=2, style=restain.Style(source="own"), seed=1, detail="model")
    patches = [[int(record.style.rpartition("#")[2]) for record in records] for records in answer.provenance]
    styles = np.stack([encodings.characteristics[tile][places] for tile, places in enumerate(patches)])
    assert np.array_equal(restain.synthesise(encodings, styles), answer.variants)


def test_gradients_pass_through_it(biased):
    several = tiles(2, seed=7)
    encodings = restain_torch.TorchEncodings.of(biased.encode(several))
    styles = torch.from_numpy(biased.style_bank().characteristics[:2]).requires_grad_()
    images = apply_styles(encodings, styles, several)
    made = restain_torch.synthesise(encodings, styles.detach()[:, None], tiles=several)[:, 0]
    assert ((images.detach() * 255 - made).abs() < 1.01).all()
    images.mean().backward()
    assert (styles.grad[:, HALF:].abs() > 0).any()


def test_a_slides_context_has_one(biased):
    several = tiles(4, side=64, seed=9)
    slide = biased.add_slide(several)
    style = restain.Style(ids=[biased.style_bank().styles[0].id])
    with_slide = biased.augment(several[:1], style=style, slide=slide).variants
    assert with_slide.shape == (1, 1, 64, 64, 3)
    assert not np.array_equal(with_slide, biased.augment(several[:1], style=style).variants)
