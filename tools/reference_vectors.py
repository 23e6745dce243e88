#!/usr/bin/env python3
"""Writes tests/fixtures/vectors-tiny.safetensors: what a small model computes, according to PyTorch.

    pip install torch==2.11.0 numpy scipy safetensors
    tools/reference_vectors.py tests/fixtures/vectors-tiny.safetensors

A second reading of the paper's text, with nothing in common with the trainer but the text: attention, positions, both
pixel orders, both losses and five AdamW steps. The tests hold the trainer against it. Float64, stored as float32.
"""

import math
import sys

import numpy as np
import scipy.ndimage
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

SIZE, PATCH, EMBED, DEPTH, HEADS, BATCH, MIXES = 16, 4, 48, 1, 4, 3, 2
GRID, HALF = SIZE // PATCH, EMBED // 2
RANK = HALF // (3 * PATCH)
torch.set_default_dtype(torch.float64)


def positions():
    rows = [torch.zeros(EMBED)]
    omega = 10000.0 ** (-torch.arange(EMBED // 4) / (EMBED // 4))
    for y in range(GRID):
        for x in range(GRID):
            rows.append(torch.cat([(x * omega).sin(), (x * omega).cos(), (y * omega).sin(), (y * omega).cos()]))
    return torch.stack(rows)


def draw_weights(generator):
    def uniform(*shape, centre=0.0):
        return (torch.rand(*shape, generator=generator) - 0.5) * 0.6 + centre

    weights = {
        "encoder.cls_token": uniform(1, 1, EMBED),
        "encoder.patch_embed.proj.weight": uniform(EMBED, 3, PATCH, PATCH),
        "encoder.patch_embed.proj.bias": uniform(EMBED),
        "encoder.norm.weight": uniform(EMBED, centre=1.0),
        "encoder.norm.bias": uniform(EMBED),
    }
    for i in range(DEPTH):
        block = f"encoder.blocks.{i}."
        for norm in ("norm1", "norm2"):
            weights[block + norm + ".weight"] = uniform(EMBED, centre=1.0)
            weights[block + norm + ".bias"] = uniform(EMBED)
        for name, outputs, inputs in (("attn.qkv", 3 * EMBED, EMBED), ("attn.proj", EMBED, EMBED), ("mlp.fc1", 4 * EMBED, EMBED), ("mlp.fc2", EMBED, 4 * EMBED)):
            weights[block + name + ".weight"] = uniform(outputs, inputs)
            weights[block + name + ".bias"] = uniform(outputs)
    # What is stored is float32: compute with just those numbers.
    return {name: value.float().double().requires_grad_() for name, value in weights.items()}


def encode(w, x):
    embedded = F.conv2d(x, w["encoder.patch_embed.proj.weight"], w["encoder.patch_embed.proj.bias"], stride=PATCH)
    tokens = embedded.flatten(2).transpose(1, 2)
    z = torch.cat([w["encoder.cls_token"].expand(len(x), -1, -1), tokens], dim=1) + positions()
    for i in range(DEPTH):
        p = f"encoder.blocks.{i}."
        normed = F.layer_norm(z, (EMBED,), w[p + "norm1.weight"], w[p + "norm1.bias"], 1e-6)
        q, k, v = F.linear(normed, w[p + "attn.qkv.weight"], w[p + "attn.qkv.bias"]).chunk(3, dim=-1)
        heads = []
        for h in range(HEADS):
            s = slice(h * EMBED // HEADS, (h + 1) * EMBED // HEADS)
            scores = torch.einsum("bid,bjd->bij", q[..., s], k[..., s]) / math.sqrt(EMBED / HEADS)
            heads.append(torch.einsum("bij,bjd->bid", scores.softmax(-1), v[..., s]))
        z = z + F.linear(torch.cat(heads, -1), w[p + "attn.proj.weight"], w[p + "attn.proj.bias"])
        normed = F.layer_norm(z, (EMBED,), w[p + "norm2.weight"], w[p + "norm2.bias"], 1e-6)
        hidden = F.gelu(F.linear(normed, w[p + "mlp.fc1.weight"], w[p + "mlp.fc1.bias"]))
        z = z + F.linear(hidden, w[p + "mlp.fc2.weight"], w[p + "mlp.fc2.bias"])
    return F.layer_norm(z, (EMBED,), w["encoder.norm.weight"], w["encoder.norm.bias"], 1e-6)


def synthesise(anatomy, characteristics, order):
    """[B, N+1, h] each; patch by patch, so that the order of pixels can be read off the code."""
    tiles = torch.zeros(len(anatomy), 3, SIZE, SIZE)
    for n in range(GRID * GRID):
        a = anatomy[:, n + 1].reshape(-1, 3, PATCH, RANK)
        c = characteristics[:, n + 1].reshape(-1, 3, RANK, PATCH)
        product = a @ c
        pixels = product if order == "planar" else product.reshape(-1, PATCH, PATCH, 3).permute(0, 3, 1, 2)
        y, x = n // GRID * PATCH, n % GRID * PATCH
        tiles[:, :, y : y + PATCH, x : x + PATCH] = pixels
    return tiles


def halves(z):
    return z[..., :HALF], z[..., HALF:]


def published(w, x, mixes, order):
    za, zc = halves(encode(w, x))
    reconstruction = synthesise(za, zc, order)
    za1, zc1 = halves(encode(w, reconstruction))
    anatomy, characteristics = F.mse_loss(za1, za), F.mse_loss(zc1, zc)
    for sample, token in mixes:
        style = zc[sample, token].expand_as(zc)
        zas, zcs = halves(encode(w, synthesise(za, style, order)))
        anatomy, characteristics = anatomy + F.mse_loss(zas, za), characteristics + F.mse_loss(zcs, style)
    return [F.mse_loss(reconstruction, x), anatomy, characteristics]


def cross(w, x, shifted, shifted_tokens, own_tokens, mixes, order):
    za, zc = halves(encode(w, x))
    zas, zcs = halves(encode(w, shifted))
    each = torch.arange(len(x))
    there = synthesise(za, zcs[each, shifted_tokens].unsqueeze(1).expand_as(zc), order)
    back = synthesise(zas, zc[each, own_tokens].unsqueeze(1).expand_as(zc), order)
    restain = F.mse_loss(there, shifted) + F.mse_loss(back, x)
    transfer = F.mse_loss(synthesise(za, zcs, order), shifted)
    return published(w, x, mixes, order) + [restain, transfer, F.mse_loss(zas, za)]


def matched(w, x, other, other_tokens, order):
    """The term `match`: a style from another tile, against the colour-matched copy."""
    za, zc = halves(encode(w, x))
    styles = torch.stack([zc[other[b], other_tokens[b]] for b in range(len(x))])
    zeros = torch.zeros(len(x), 3)
    target = colour_shift(x, other, zeros, zeros)
    return [F.mse_loss(synthesise(za, styles.unsqueeze(1).expand_as(zc), order), target)]


def sharp(w, x, shifted, shifted_tokens, own_tokens, other, other_tokens, mixes, order):
    """The terms `match`, `detail` and `border` at the weights .5, .7 and .3; residuals weigh what their terms do."""
    za, zc = halves(encode(w, x))
    zas, zcs = halves(encode(w, shifted))
    one = lambda z, tokens, tiles: torch.stack([z[tiles[b], tokens[b]] for b in range(len(x))]).unsqueeze(1).expand_as(zc)
    own = list(range(len(x)))
    zeros = torch.zeros(len(x), 3)
    pictures = [
        (1, synthesise(za, zc, order), x),
        (1, synthesise(za, one(zcs, shifted_tokens, own), order), shifted),
        (1, synthesise(zas, one(zc, own_tokens, own), order), x),
        (1, synthesise(za, zcs, order), shifted),
        (0.5, synthesise(za, one(zc, other_tokens, other), order), colour_shift(x, other, zeros, zeros)),
    ]
    detail = border = 0
    for weight, made, target in pictures:
        for left in (made - target, (made - target).transpose(2, 3)):
            steps = left[..., 1:] - left[..., :-1]
            detail = detail + weight * steps.square().mean()
            border = border + weight * steps[..., PATCH - 1 :: PATCH].square().mean()
    return [0.7 * detail, 0.3 * border]


def quantile_matched(x, other):
    """Nine quantiles onto nine quantiles by numpy.interp, straight lines of slope 2 at most beyond them."""
    out = torch.empty_like(x)
    for b in range(len(x)):
        for c in range(3):
            knots = [np.sort(x[t, c].numpy().ravel())[np.floor((np.arange(9) + 0.5) / 9 * (SIZE * SIZE - 1) + 0.5).astype(int)] for t in (b, other[b])]
            start, end = knots[0] + 1e-3 * np.arange(9), knots[1]
            v = x[b, c].numpy()
            mapped = np.interp(v, start, end)
            slope = lambda i, j: min((end[j] - end[i]) / max(start[j] - start[i], 0.02), 2)
            mapped = np.where(v < start[0], end[0] + (v - start[0]) * slope(0, 1), mapped)
            mapped = np.where(v > start[8], end[8] + (v - start[8]) * slope(7, 8), mapped)
            out[b, c] = torch.from_numpy(mapped)
    return out


def toned(x, other, share, sigma):
    zeros = torch.zeros(len(x), 3)
    matched = colour_shift(x, other, zeros, zeros)
    blurred = scipy.ndimage.gaussian_filter((quantile_matched(x, other) - matched).numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=3.0)
    return matched + share * torch.from_numpy(blurred)


def colour_shift(x, other, gain, offset):
    """Per channel: contrast and mean of tile other[b], its gain times 1 + .15 gain, plus .2 offset."""
    out = torch.empty_like(x)
    for b in range(len(x)):
        for c in range(3):
            own, target = x[b, c], x[other[b], c]
            ratio = (target.std(correction=0) + 1e-3) / (own.std(correction=0) + 1e-3)
            out[b, c] = (own - own.mean()) * ratio.clamp(0.25, 4.0) * (1 + 0.15 * gain[b, c]) + target.mean() + 0.2 * offset[b, c]
    return out


def main(path):
    generator = torch.Generator().manual_seed(20240702)
    w = draw_weights(generator)
    normal = lambda *shape: torch.randn(*shape, generator=generator).float().double()
    x, gain, offset = normal(BATCH, 3, SIZE, SIZE) * 0.8, normal(BATCH, 3), normal(BATCH, 3)
    other, mixes = [1, 2, 0], [(0, 5), (2, 0)]
    shifted_tokens, own_tokens, other_tokens = torch.tensor([1, 16, 7]), torch.tensor([3, 9, 12]), torch.tensor([2, 11, 15])
    shifted = colour_shift(x, other, gain, offset).float().double()
    out = {"x": x, "gain": gain, "offset": offset, "shifted": shifted, "z": encode(w, x)}
    out |= {"quantile_matched": quantile_matched(x, other), "toned": toned(x, other, 1.25, 1.0)}
    out |= {name: value.clone() for name, value in w.items()}
    za, zc = halves(out["z"])
    for order in ("planar", "interleaved"):
        out[f"{order}.reconstruction"] = synthesise(za, zc, order)
        out[f"{order}.variants"] = torch.stack([synthesise(za, zc[s, t].expand_as(zc), order) for s, t in mixes])
        crossed = cross(w, x, shifted, shifted_tokens, own_tokens, mixes, order)
        halfway = [0.5 * term for term in matched(w, x, other, other_tokens, order)]
        for recipe, terms in (
            ("published", published(w, x, mixes, order)),
            ("cross", crossed),
            ("match", crossed + halfway),
            ("sharp", crossed + halfway + sharp(w, x, shifted, shifted_tokens, own_tokens, other, other_tokens, mixes, order)),
        ):
            out[f"{order}.{recipe}.losses"] = torch.stack(terms)
            grads = torch.autograd.grad(sum(terms), list(w.values()), retain_graph=True)
            out |= {f"{order}.{recipe}.grad.{name}": grad for name, grad in zip(w, grads)}
    kept = {name: value.detach().clone() for name, value in w.items()}
    optimiser = torch.optim.AdamW(w.values(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05)
    after = []
    for _ in range(5):
        optimiser.zero_grad()
        sum(published(w, x, mixes, "planar")).backward()
        optimiser.step()
        after.append(torch.stack(published(w, x, mixes, "planar")).detach())
    out |= kept
    out["planar.published.losses_after_adamw_steps"] = torch.stack(after)
    out = {name: value.detach().float().contiguous() for name, value in out.items()}
    out |= {"target_sample": torch.tensor([m[0] for m in mixes]), "target_token": torch.tensor([m[1] for m in mixes])}
    out |= {"other": torch.tensor(other), "shifted_token": shifted_tokens, "own_token": own_tokens, "other_token": other_tokens}
    save_file(out, path)


if __name__ == "__main__":
    main(sys.argv[1])
