#!/usr/bin/env python3
"""Prints the figures that crates/method/src/reference_figures.rs holds the code against.

    pip install numpy scipy scikit-image
    tools/reference_figures.py

A second reading of the papers, with nothing in common with the Rust code but the pictures that formulas make: stains by
NumPy's eigenvectors, percentiles and least squares, colour in Lαβ by its matrices, masks by scikit-image, distances by
SciPy's square root of a matrix.
"""

import numpy as np
from scipy import linalg
from skimage.color import hed_from_rgb, separate_stains
from skimage.filters import threshold_otsu

HAEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])


def stained(amounts, offset):
    """[24, 30, 3] uint8: two stains in amounts that a formula makes, on glass of level 250."""
    y, x = np.mgrid[:24, :30]
    nuclei = ((x * 7 + y * 13 + (x * y) % 17 + offset) % 31) / 31 * amounts[0]
    stroma = ((x * 5 + y * 3 + (x * y) % 11 + 2 * offset) % 23) / 23 * amounts[1]
    density = nuclei[..., None] * HAEMATOXYLIN + stroma[..., None] * EOSIN
    return np.floor(250 * np.exp(-density) + 0.5).astype(np.uint8)


def digest(tile):
    """A few pixels and the mean: enough to tell two pictures apart."""
    flat = tile.reshape(-1, 3)
    return flat[[0, 1, 100, 333, 719]].tolist(), float(tile.mean())


# Reinhard, Ashikhmin, Gooch, Shirley 2001.
LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
LAB = np.diag([1 / np.sqrt(3), 1 / np.sqrt(6), 1 / np.sqrt(2)]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])


def reinhard(tile, target):
    to_lab = lambda t: np.log10(t.reshape(-1, 3) / 255 @ LMS.T) @ LAB.T
    own, other = to_lab(tile), to_lab(target)
    moved = (own - own.mean(0)) / own.std(0) * other.std(0) + other.mean(0)
    rgb = 10 ** (moved @ np.linalg.inv(LAB).T) @ np.linalg.inv(LMS).T
    return np.clip(np.rint(255 * rgb), 0, 255).astype(np.uint8).reshape(tile.shape)


# Macenko et al. 2009.
def stains(tile):
    density = -np.log(tile.reshape(-1, 3) / 255)
    tissue = density[(density >= 0.15).all(1)]
    _, vectors = np.linalg.eigh(np.cov(tissue.T))
    plane = vectors[:, [2, 1]] * np.where(vectors[0, [2, 1]] < 0, -1, 1)
    angles = np.arctan2(tissue @ plane[:, 1], tissue @ plane[:, 0])
    low, high = (plane @ [np.cos(a), np.sin(a)] for a in np.percentile(angles, [1, 99]))
    matrix = np.array([low, high] if low[0] > high[0] else [high, low])
    amounts = np.linalg.lstsq(matrix.T, density.T, rcond=None)[0]
    return matrix, amounts, np.percentile(amounts, 99, axis=1)


def macenko(tile, target):
    _, amounts, own = stains(tile)
    matrix, _, other = stains(target)
    rgb = 255 * np.exp(-matrix.T @ (amounts * (other / own)[:, None]))
    return np.clip(np.rint(rgb.T), 0, 255).astype(np.uint8).reshape(tile.shape)


# Ruifrok, Johnston 2001; Otsu 1979.
def mask(tile):
    amount = separate_stains(tile, hed_from_rgb)[..., 0]
    return amount > threshold_otsu(amount)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def features(rows, offset):
    """[rows, 6]"""
    i = np.arange(rows * 6)
    return (((i * i * 5 + i * 11 + offset * 17) % 23) / 9 + offset * 0.5).astype(np.float32).astype(float).reshape(rows, 6)


# Heusel et al. 2017.
def frechet(a, b):
    s, t = np.cov(a.T), np.cov(b.T)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * np.trace(linalg.sqrtm(s @ t)).real


# Bińkowski et al. 2018.
def kid(a, b):
    kernel = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3
    within = lambda x: (kernel(x, x).sum() - np.trace(kernel(x, x))) / (len(x) * (len(x) - 1))
    return within(a) + within(b) - 2 * kernel(a, b).mean()


def main():
    tile, target = stained((1.6, 0.7), 0), stained((1.0, 1.3), 5)
    print("tile", digest(tile))
    print("target", digest(target))
    print("reinhard", digest(reinhard(tile, target)))
    matrix, _, maxima = stains(tile)
    print("macenko stains", matrix.tolist(), maxima.tolist())
    print("macenko", digest(macenko(tile, target)))
    print("haematoxylin pixels", int(mask(tile).sum()), int(mask(target).sum()), "dice", dice(mask(tile), mask(target)))
    a, b = features(9, 0), features(7, 1)
    print("frechet", frechet(a, b), "kid", kid(a, b))
    wide = features(40, 2)
    print("frechet, more rows than columns", frechet(wide, features(50, 0)))


main()
