"""What a server's encoders hold in memory."""

from pathlib import Path

from served import ROOT


def anonymous(server):
    """Bytes of memory that are no file's."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("RssAnon:")]
    return int(line.split()[1]) * 1024


def test_encoders_on_a_cpu_share_one_copy_of_the_weights(serve):
    [demo] = (ROOT / "models/demo").iterdir()
    weights = (demo / "weights.safetensors").stat().st_size
    few, many = (anonymous(serve("--encoders-per-device", count, models=ROOT / "models")) for count in (2, 6))
    # Four more have activations and buffers of their own. With weights of their own they would have four times these.
    assert many - few < 2 * weights
