"""Two processes at one experiment: one waits, and finds the work done; what a killed one held is free."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from extract.errors import InputError
from pipeline.bars import Bars
from pipeline.turns import taking_turns

HOLD = """
import sys, time
from pathlib import Path
from pipeline.bars import Bars
from pipeline.turns import taking_turns
with taking_turns(Path(sys.argv[1]), Bars()):
    print("held", flush=True)
    time.sleep(60)
"""
RUN = """
import sys, time
from pathlib import Path
from pipeline.bars import Bars
from pipeline.config import load_config
from pipeline.run import Result, Run, Stage

def work(run, task):
    (run.folder / "began").open("a").write("x")
    time.sleep(3)
    done = run.folder / "done"
    done.write_text("done")
    return Result([done], "done", "worked")

folder = Path(sys.argv[1])
stage = Stage("long", "waits", (), lambda run: {}, work)
Run(load_config("tiny", [f"data.root={folder}"]), folder).execute([stage], Bars())
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, tmp_path / "a.lock"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_what_a_killed_process_held_is_free(
    tmp_path: Path, holder: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    killer = threading.Timer(1, holder.kill)
    killer.start()
    began = time.monotonic()
    with taking_turns(tmp_path / "a.lock", Bars()):
        assert time.monotonic() - began > 0.5
    assert "waiting for another process" in capsys.readouterr().err
    assert holder.wait(5) == -signal.SIGKILL


@pytest.mark.usefixtures("holder")
def test_torchrun_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="another process at the same work"), taking_turns(tmp_path / "a.lock", Bars()):
        pass
    monkeypatch.setenv("RANK", "1")
    with taking_turns(tmp_path / "a.lock", Bars()):
        pass


def test_the_second_run_finds_the_stage_done(tmp_path: Path) -> None:
    out = tmp_path / "out"
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    both = [
        subprocess.Popen([sys.executable, "-c", RUN, out], stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=100)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert (out / "began").read_text() == "x"
    assert sorted("long: up to date" in one for one in told) == [False, True]
