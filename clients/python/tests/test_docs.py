"""The examples in the package's docstrings run, without a server, and print what they show."""

import doctest
import importlib
import pkgutil

import pytest

import restain


def modules():
    """The names of all modules of the package that need nothing beyond the test requirements."""
    found = (module.name for module in pkgutil.walk_packages(restain.__path__, "restain."))
    # Importing albumentations warns, and its transform needs a server; restain.local needs the extension of a wheel.
    return [name for name in found if name not in ("restain.albumentations", "restain.local", "restain._local")]


@pytest.mark.parametrize("name", modules())
def test_examples_print_what_they_show(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_what_works_without_a_server_has_an_example():
    finder = doctest.DocTestFinder(exclude_empty=True)
    shown = {
        test.name.rpartition(".")[2]
        for name in modules()
        for test in finder.find(importlib.import_module(name))
        if test.examples
    }
    assert {"tile_key", "epoch_seed", "Style", "synthesise", "reconstruct", "draw", "blend", "Retry", "Limits"} <= shown
