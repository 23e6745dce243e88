"""Fixtures of the tests of deploy/: every kustomization, built once, and the programs that they need."""

import pytest
import required
import yaml

from . import manifests


@pytest.fixture(scope="session")
def prometheus_programs():
    """Prometheus and its tool, in the search path."""
    required.program("prometheus", "prometheus")
    required.program("promtool", "prometheus")


@pytest.fixture(scope="session")
def kustomize(tmp_path_factory):
    """A copy of deploy/kustomize with the files that an operator adds."""
    return manifests.copy(tmp_path_factory.mktemp("deploy") / "kustomize")


@pytest.fixture(scope="session")
def built(kustomize):
    """The manifests of every kustomization, by its folder."""

    def one(name):
        done = manifests.build(kustomize / name)
        assert done.returncode == 0, done.stderr
        assert not done.stderr, f"kubectl warns: {done.stderr}"
        return manifests.Manifests(name, list(yaml.safe_load_all(done.stdout)))

    return {name: one(name) for name in manifests.kustomizations()}


@pytest.fixture(params=manifests.kustomizations())
def each(request, built):
    """One kustomization after the other."""
    return built[request.param]
