"""The client before a server that lets in only whom it knows: by key, and by certificate."""

import pickle
import subprocess

import numpy as np
import pytest
import trustme
from served import PROGRAM, tiles

import restain
from restain import Client


def made(folder, *words):
    """A file with one key, and its token."""
    told = subprocess.run([PROGRAM, "key", *words], capture_output=True, text=True, check=True)
    (folder / "keys.toml").write_text(told.stdout)
    return folder / "keys.toml", told.stderr.split()[-1]


def test_a_key_is_sent_wherever_the_client_goes_and_is_found_in_the_environment(serve, tmp_path, monkeypatch):
    keys, token = made(tmp_path, "training")
    server = serve("--keys", keys)
    with Client(server.url, key=token) as client, pickle.loads(pickle.dumps(client)) as other:
        assert np.array_equal(client.augment(tiles(2), seed=1).variants, other.augment(tiles(2), seed=1).variants)
    with Client(server.url) as client:
        with pytest.raises(restain.AccessDenied, match="needs a key") as refused:
            client.augment(tiles(1))
        assert (refused.value.code, refused.value.status) == ("unauthenticated", 401)
        assert client.ready()
    monkeypatch.setenv("RESTAIN_KEY", token)
    with Client(server.url) as client:
        assert client.models()[0].name == "tiny"
        with pytest.raises(restain.AccessDenied, match="scope `styles`"):
            client.add_styles("mine", tiles(1))


def test_a_key_with_a_rate_is_waited_for(serve, tmp_path):
    keys, token = made(tmp_path, "slow", "--requests-per-second", "4", "--burst", "1")
    server = serve("--keys", keys)
    with Client(server.url, key=token) as client:
        assert [client.augment(tiles(1), seed=seed).seed for seed in range(3)] == [0, 1, 2]


def test_certificates_are_checked_and_shown(serve, tmp_path):
    authority = trustme.CA()
    root, cert, key = tmp_path / "root.pem", tmp_path / "tls.crt", tmp_path / "tls.key"
    authority.cert_pem.write_to_path(root)
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    own = authority.issue_cert("trainer@example.org").private_key_and_cert_chain_pem
    own.write_to_path(tmp_path / "own.pem")
    server = serve("--tls-cert", cert, "--tls-key", key, "--tls-client-ca", root)
    shown = (str(tmp_path / "own.pem"), str(tmp_path / "own.pem"))
    with Client(server.url, ca_certs=str(root), client_cert=shown) as client:
        assert client.augment(tiles(1)).variants.shape[1] == 1
    for options in ({"ca_certs": str(root)}, {"client_cert": shown}):
        with Client(server.url, timeout=3, **options) as client, pytest.raises(restain.ServerError):
            client.augment(tiles(1))
