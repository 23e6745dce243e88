"""What the README shows works: its blocks, one after the other, against the real server."""

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_the_readmes_python_runs(server, capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    # tests/python/test_wheels.py runs what needs a wheel.
    blocks = [block for block in blocks if "restain.local" not in block]
    assert len(blocks) == 9
    names = {}
    for block in blocks:
        assert block.count("\n") <= 11
        exec(compile(block.replace("http://127.0.0.1:8080", server.url), str(README), "exec"), names)
    names["client"].close()
    said = capsys.readouterr().out
    assert "(8, 4, 32, 32, 3)" in said
    assert said.count("torch.Size([8, 3, 32, 32])") == 4
    assert "1 batch of 2" in said
    assert "1 requests, 0 retries; 8 tiles, 0 of them sent; 0.0 MB sent, 0.1 MB received" in said
    assert "\nTrue\n" in said
    assert "torch.Size([8, 2]) tensor(True)" in said
    assert names["each"].shape == (1 + len(names["domains"]), 8, 2)
    assert names["doubled"].shape == (16,)
    assert names["variants"].shape == (8, 16, 3, 32, 32)
