"""What the tests of deploy/kustomize share: every kustomization, built once."""

import pytest
import yaml

from . import manifests


@pytest.fixture(scope="session")
def kustomize(tmp_path_factory):
    """A copy of deploy/kustomize with the files of whoever deploys."""
    return manifests.copy(tmp_path_factory.mktemp("deploy") / "kustomize")


@pytest.fixture(scope="session")
def built(kustomize):
    """What every kustomization gives, by its folder."""

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
