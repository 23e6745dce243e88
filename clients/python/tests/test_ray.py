"""The example for Ray Data on a local Ray of two actors, of which one is killed within a batch."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from pyarrow import parquet
from served import tiles, until

import restain

EXAMPLE = Path(__file__).resolve().parents[1] / "examples/ray_data.py"


def environment():
    """Without Ray's statistics; Ray gives its own processes half a minute to start, and a busy machine needs more."""
    ray = {"USAGE_STATS_ENABLED": "0", "raylet_start_wait_time_s": "240", "AUTH_MODE": "disabled"}
    own = {f"RAY_{name}": value for name, value in ray.items()}
    return {**os.environ, "PYTHONPATH": str(EXAMPLE.parents[1] / "src"), "RAY_DATA_DISABLE_PROGRESS_BARS": "1", **own}


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def busy_actors(port):
    """The actors of Ray, on this machine, that have a connection to `port`."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # Columns: number, own address, the other's, state (01: established), …, inode.
    sockets = {f"socket:[{row[9]}]" for row in rows if row[2].endswith(f":{port:04X}") and row[3] == "01"}
    return [process for process in ray_processes() if sockets & set(process_links(process))]


def ray_processes():
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes().startswith(b"ray::"):
                yield int(process.name)
        except (FileNotFoundError, ProcessLookupError):
            continue


def session_processes(session):
    """The processes that the example has started and that still run."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(process.name)) == session:
                yield int(process.name)
        except ProcessLookupError:
            continue


def process_links(process):
    try:
        return [os.readlink(link) for link in Path(f"/proc/{process}/fd").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def test_ray_loses_and_doubles_nothing_when_an_actor_is_killed(serve, tmp_path):
    server, source, out = serve(), tmp_path / "tiles", tmp_path / "variants"
    source.mkdir()
    # Of two sizes, which Ray keeps apart or together as it likes.
    expected = {str(source / f"{n}.png"): tile[: 40 + 8 * (n % 2)] for n, tile in enumerate(tiles(12, side=48))}
    for path, tile in expected.items():
        Image.fromarray(tile).save(path)
    port = int(server.http.rpartition(":")[2])
    arguments = [source, out, "--url", server.url, "--variants", "2", "--batch-size", "2"]
    # The server stands still until both actors wait for it, so that one of them dies within a batch.
    server.process.send_signal(signal.SIGSTOP)
    with open(tmp_path / "log", "w") as log:
        running = subprocess.Popen(
            [sys.executable, EXAMPLE, *arguments], env=environment(), stdout=log, stderr=log, start_new_session=True
        )
        try:
            actors = until(lambda: (found := busy_actors(port)) and len(found) >= 2 and found, seconds=400)
            os.kill(actors[0], signal.SIGKILL)
            server.process.send_signal(signal.SIGCONT)
            assert running.wait(timeout=400) == 0, (tmp_path / "log").read_text()
        finally:
            # Ray ends its processes when its driver ends, unless it is killed.
            running.terminate()
            running.wait(timeout=60)
            for process in session_processes(running.pid):
                os.kill(process, signal.SIGKILL)
    rows = parquet.read_table(out).to_pylist()
    assert sorted((row["path"], row["index"]) for row in rows) == sorted((path, k) for path in expected for k in (0, 1))
    with restain.Client(server.url) as client:
        for row in rows:
            made = client.augment(expected[row["path"]], variants=2, seed=7)
            assert np.array_equal(pixels(row["png"]), made.variants[0, row["index"]])
            assert row["style"] == made.provenance[0][row["index"]].style
