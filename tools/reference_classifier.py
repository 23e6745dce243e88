#!/usr/bin/env python3
"""Writes tests/fixtures/densenet121.safetensors: what DenseNet-121 computes, according to torchvision.

    pip install torch==2.11.0 torchvision==0.26.0 numpy safetensors
    tools/reference_classifier.py tests/fixtures/densenet121.safetensors

The weights are a formula of a parameter's name and an element's index, so that they need not be stored and so that a
parameter of another name gives another result. Float64, stored as float32.
"""

import sys

import numpy as np
import torch
import torchvision
from safetensors.torch import save_file

CLASSES, SIDE, BATCH = 3, 64, 2


def numbers(name, count):
    """`count` numbers in -1..1: an integer hash of the FNV-1a hash of the name and the index."""
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 % 2**32
    mask = np.uint64(2**32 - 1)
    x = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(seed)) & mask
    for multiplier in (2246822519, 3266489917):
        x = (x ^ (x >> np.uint64(15))) * np.uint64(multiplier) & mask
    return torch.from_numpy(((x ^ (x >> np.uint64(16))) >> np.uint64(8)).astype(np.float64) / 2**23 - 1.0)


def value(name, shape):
    """Weights that keep activations near 1: uniform, deviation √(2 / fan-in); norms near the identity."""
    u = numbers(name, int(np.prod(shape))).view(shape)
    if len(shape) > 1:
        return u * (6.0 / np.prod(shape[1:])) ** 0.5
    return 1.0 + 0.3 * u if name.endswith((".weight", ".running_var")) else 0.3 * u


def main(path):
    torch.set_default_dtype(torch.float64)
    model = torchvision.models.densenet121(num_classes=CLASSES)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                # What is compared with is float32: compute with just those numbers.
                tensor.copy_(value(name, tuple(tensor.shape)).float().double())
    tiles = numbers("tiles", BATCH * 3 * SIDE * SIDE).view(BATCH, 3, SIDE, SIDE).float().double()
    out = {}
    model.eval()
    with torch.no_grad():
        out["evaluated.logits"] = model(tiles)
        out["evaluated.features"] = model.features(tiles).relu().mean((2, 3))[:, ::16]
    model.train()
    logits = model(tiles)
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
    out["trained.logits"] = logits
    out["trained.gradient_norms"] = torch.stack([p.grad.norm() for _, p in model.named_parameters()])
    moved = [b for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var"))]
    out["trained.buffer_norms"] = torch.stack([b.norm() for b in moved])
    save_file({name: tensor.detach().float().contiguous() for name, tensor in out.items()}, path)


if __name__ == "__main__":
    main(sys.argv[1])
