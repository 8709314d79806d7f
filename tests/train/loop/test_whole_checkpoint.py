"""Checkpoints that a kill, a full disk or a bad one cut off."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from train.loop.whole_checkpoint import last_whole_checkpoint


def checkpoint(work: Path, step: int) -> Path:
    """The files of the loop's, in small."""
    folder = work / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    save_file({"a": torch.zeros(100)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"x": torch.zeros(100)}, folder / name)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
    return folder


def cut(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) * 2 // 3])

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "trainer_state.json").unlink(),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "optimizer.pt").write_bytes(b""),
        *map(cut, ("trainer_state.json", "model.safetensors", "optimizer.pt", "scheduler.pt")),
    ],
)
def test_an_older_one_takes_the_place_of_one_that_is_not_whole(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    for step in (5, 20, 100):
        checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-notes").mkdir()
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-100")
    damage(tmp_path / "checkpoint-100")
    damage(tmp_path / "checkpoint-20")
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-5")
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-5", "checkpoint-notes"}
    damage(tmp_path / "checkpoint-5")
    assert last_whole_checkpoint(tmp_path) is None
    assert last_whole_checkpoint(tmp_path / "nowhere") is None
