"""What a terminal shows while another process runs a notebook."""

import io
import sys
import time

from refit import files
from refit.run_directory.directory import PROGRESS
from refit.running.progress import RunProgress, follow


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_something_moves_at_once_and_the_bar_gives_way_to_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    seen = []
    with follow(tmp_path):
        running = {"done": 1, "text": "lenet 2/3"}
        for state in (None, running, {"done": 2, "text": "", "ended": True}):
            if state:
                whole = RunProgress(total=2, **state)
                files.write_json(tmp_path / PROGRESS, whole.model_dump())
            time.sleep(1.2)
            seen.append(terminal.getvalue())
            terminal.truncate(0)
    assert "starting the notebook" in seen[0]
    assert "lenet 2/3" in seen[1]
    assert seen[2].rindex("making the page") > seen[2].index("2/2")
