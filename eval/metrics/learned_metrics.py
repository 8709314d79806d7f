"""Learned metrics, which need models of gigabytes and packages that are not this project's: called where they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from extract.errors import InputError

COMET_MODEL = "Unbabel/wmt22-comet-da"


def bleurt_scores(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
    """BLEURT (Sellam et al. 2020) of each sentence, by google-research/bleurt and the checkpoint that
    ``BLEURT_CHECKPOINT`` names.

    Raises:
        InputError: no such package or checkpoint.
    """
    scorer, checkpoint = require_bleurt()
    return [float(value) for value in scorer(checkpoint).score(candidates=hypotheses, references=references)]


def require_bleurt() -> tuple[Any, str]:
    """Its class and its checkpoint. Errors as ``bleurt_scores``."""
    try:
        from bleurt.score import BleurtScorer
    except ImportError as error:
        raise InputError(
            "metric bleurt", expected="the package bleurt", found="none",
            remedy="It is on no package index: pip install git+https://github.com/google-research/bleurt.git.",
        ) from error  # fmt: skip
    checkpoint = os.environ.get("BLEURT_CHECKPOINT", "")
    if not Path(checkpoint).is_dir() or not checkpoint:
        raise InputError(
            "metric bleurt", expected="a checkpoint's folder in BLEURT_CHECKPOINT", found=checkpoint or "unset",
            remedy="Unpack https://storage.googleapis.com/bleurt-oss-21/BLEURT-20.zip and export its place.",
        )  # fmt: skip
    return BleurtScorer, checkpoint


def comet_scores(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
    """COMET (Rei et al. 2022) of each sentence, by the command ``comet-score`` with ``COMET_MODEL``, a name or a file.

    A command and not an import: unbabel-comet holds numpy below 2 and transformers below 5, so it needs an environment
    of its own. There is no source text in sign translation: the reference stands in its place.

    Raises:
        InputError: no such command, or it failed; its last line is told.
    """
    command = require_comet()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, texts in (("hyp", hypotheses), ("ref", references)):
            (folder / file).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        model = os.environ.get("COMET_MODEL", COMET_MODEL)
        gpus = "1" if shutil.which("nvidia-smi") else "0"
        words = ["-s", folder / "ref", "-t", folder / "hyp", "-r", folder / "ref", "--model", model, "--gpus", gpus,
                 "--to_json", folder / "scores.json", "--quiet"]  # fmt: skip
        done = subprocess.run([command, *map(str, words)], capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
            raise InputError("metric comet", expected=f"scores by {model}", found=said,
                             remedy="Run comet-score by hand to see why.")  # fmt: skip
        (segments,) = json.loads((folder / "scores.json").read_text(encoding="utf-8")).values()
    return [float(segment["COMET"]) for segment in segments]


def require_comet() -> str:
    """The command. Errors as ``comet_scores``."""
    command = shutil.which("comet-score")
    if command is None:
        raise InputError(
            "metric comet", expected="the command comet-score", found="none",
            remedy="In an environment of its own: pip install unbabel-comet; then put its bin folder on PATH.",
        )  # fmt: skip
    return command
