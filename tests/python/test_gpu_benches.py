"""What benches/gpu.sh runs, as far as a machine without a GPU can: that it works, not how fast."""

import json
import subprocess
import sys

from served import ROOT, TARGET, environment


def test_losses_in_bf16_follow_those_in_f32_and_are_not_the_same(tmp_path):
    figures = tmp_path / "curves.json"
    command = [sys.executable, ROOT / "benches/curves.py", "--restain-train", TARGET / "debug/restain-train", "--device", "cpu"]
    command += ["--precisions", "bf16", "--steps", "2", "--batch", "2", "--json", figures]
    subprocess.run(command, check=True, cwd=ROOT, env=environment(), timeout=600)
    worst = json.loads(figures.read_text())["bf16"]["worst"]
    assert {"loss/reconstruction", "loss/restain", "loss/total"} <= worst.keys()
    assert all(0 < apart < 0.05 for apart in worst.values()), worst


def test_a_part_that_does_not_exist_is_named():
    refused = subprocess.run([ROOT / "benches/gpu.sh", "--device", "cpu", "everything"], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and "everything" in refused.stderr

