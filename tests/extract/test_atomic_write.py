"""Files and folders that are there in full or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from extract.atomic_write import UNFINISHED, replacing, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    assert write_atomic(path, b"\xff\r\n").read_bytes() == b"\xff\r\n"
    assert write_atomic(path, "ü\n").read_bytes() == b"\xc3\xbc\n"
    with pytest.raises(FileExistsError):
        write_atomic(path, "other", new=True)
    assert path.read_text(encoding="utf-8") == "ü\n"
    write_atomic(path.with_name("new"), "new", new=True)
    assert names(path.parent) == ["file", "new"]
    os.umask(umask := os.umask(0))
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask  # others may read what this user may show them


def test_what_is_replaced_stays_until_the_end(tmp_path: Path) -> None:
    for number in range(2):
        with replacing(tmp_path / "folder") as new:
            new.mkdir()
            (new / "inner").write_text(str(number))
            assert (tmp_path / "folder").exists() == (number > 0)
        with replacing(tmp_path / "file.txt") as new:
            new.write_text(str(number))
        assert (tmp_path / "folder/inner").read_text() == (tmp_path / "file.txt").read_text() == str(number)
    assert names(tmp_path) == ["file.txt", "folder"]


def test_a_block_that_fails_changes_nothing(tmp_path: Path) -> None:
    def replace_by_half() -> None:
        with replacing(tmp_path / "folder") as new:
            new.mkdir()
            raise KeyboardInterrupt

    def replace_by_nothing() -> None:
        with replacing(tmp_path / "folder"):
            pass

    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/old").touch()
    for failing, error in ((replace_by_half, KeyboardInterrupt), (replace_by_nothing, FileNotFoundError)):
        with pytest.raises(error):
            failing()
        assert names(tmp_path) == ["folder"]
        assert names(tmp_path / "folder") == ["old"]


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from extract.atomic_write import replacing\n"
        "with replacing(Path(sys.argv[1])) as new:\n"
        "    new.mkdir(); print(new.parent, flush=True); sys.stdin.read(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "folder")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    left = Path(other.stdout.readline().strip())
    assert left.name.endswith(UNFINISHED)
    for living in (True, False):
        if not living:
            other.communicate()
        with replacing(tmp_path / "folder") as new:
            new.mkdir()
        assert left.exists() == living
    assert names(tmp_path) == ["folder"]


def test_a_folder_whose_process_died_between_the_renames_comes_back(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from extract.atomic_write import replacing\n"
        "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "with replacing(Path(sys.argv[1])) as new:\n"
        "    new.mkdir(); Path.replace = die\n"  # the second of the two
    )
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/old").touch()
    died = subprocess.run([sys.executable, "-c", code, str(tmp_path / "folder")], check=False)
    assert died.returncode < 0
    assert not (tmp_path / "folder").exists()
    with replacing(tmp_path / "folder") as new:
        assert names(tmp_path / "folder") == ["old"]
        new.mkdir()
    assert names(tmp_path) == ["folder"]
