"""`restain augment` on a terminal: what a person sees, and what Ctrl-C does."""

import os
import pty

from PIL import Image
from served import PROGRAM, environment, install, tiles

FLAGS = ["--variants", "3", "--seed", "8", "--threads", "1"]


def on_a_terminal(command, interrupt):
    """Runs it, types Ctrl-C once `interrupt` of what was shown so far; gives the status and all that was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(command[0], command, environment())
    shown, typed = b"", False
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # what a terminal says when its last program has ended
            break
        if not piece:
            break
        shown += piece
        if not typed and interrupt(shown):
            os.write(terminal, b"\x03")
            typed = True
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), shown.decode()


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_a_bar_is_shown_and_ctrl_c_keeps_what_is_done(tmp_path):
    install(tmp_path / "models")
    (tmp_path / "in").mkdir()
    for number, picture in enumerate(tiles(400, side=128)):
        Image.fromarray(picture).save(tmp_path / f"in/{number:03}.png")
    flags = ["--models", str(tmp_path / "models"), *FLAGS]

    def command(out):
        return [str(PROGRAM), "augment", str(tmp_path / "in"), str(tmp_path / out), *flags]

    status, shown = on_a_terminal(command("whole"), lambda shown: False)
    assert status == 0 and "/400 tiles" in shown and " left" in shown, shown
    assert "400 tiles, 1200 variants, 0 left out" in shown

    status, shown = on_a_terminal(command("stopped"), lambda shown: b"/400 tiles" in shown)
    assert status == 130 and "run the same command to resume" in shown, shown
    kept = contents(tmp_path / "stopped")
    whole = contents(tmp_path / "whole")
    assert 0 < len(kept) < len(whole) and kept.items() <= whole.items()

    status, shown = on_a_terminal(command("stopped"), lambda shown: False)
    assert status == 0 and "were done before" in shown, shown
    assert contents(tmp_path / "stopped") == whole
