"""``slt translate``: the test split of an experiment, or anybody's videos with a trained translator."""

from __future__ import annotations

import contextlib
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from extract.errors import SOME_FAILED, InputError, SltError
from pipeline.commands.arguments import AsJson, DryRun, Force, Manifest, Out, Set, open_run
from pipeline.commands.printing import print_json

if TYPE_CHECKING:
    from eval.translation.clip_translator import ClipTranslator

MAX_DOWNLOAD = 2**30
"""Bytes of a video that is fetched; longer ones are for a file."""
_SECONDS = 60
"""How long a server may be silent."""


def translate(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG | VIDEO...",
            help="An experiment's config; with --model: video files, folders of frames, or URLs, one sentence each.",
        ),
    ],
    model: Annotated[
        Path | None, typer.Option(help="Folder of an experiment, or of a translator in it, that translates videos.")
    ] = None,
    out: Out = None,
    overrides: Set = None,
    manifest: Manifest = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Translate the test split by both stages, and the sanity rows; or, with --model, videos."""
    if model is not None:
        if out or overrides or manifest or force or dry_run:
            raise InputError("slt translate --model", expected="videos and --json only", found="options of a config",
                             remedy="Leave them out: a trained translator has its settings with it.")  # fmt: skip
        raise typer.Exit(_videos(given, model, as_json))
    if len(given) > 1 or Path(given[0]).is_dir() or _is_url(given[0]) or _is_video(given[0]):
        raise InputError("slt translate", expected="one CONFIG, or --model with videos", found=", ".join(given),
                         remedy="For example `slt translate clip.mp4 --model runs/demo`.")  # fmt: skip
    from pipeline.commands.single_stage import single_stage

    single_stage("translate", open_run(given[0], out, overrides, manifest), force, dry_run, as_json)


def _videos(given: Sequence[str], model: Path, as_json: bool) -> int:
    """Translate one after the other; one that cannot be read is told, and the others go on."""
    translator = _load(model)
    told = []
    for video in given:
        began = time.perf_counter()
        row: dict[str, Any] = {"video": video}
        try:
            with _at_hand(video) as path:
                found = translator(path)
        except SltError as error:
            row["error"] = str(error)
        else:
            row |= {"text": found.text, "score": found.score, "pieces": found.pieces}
            row["seconds"] = round(time.perf_counter() - began, 3)
        told.append(row)
        if as_json:
            continue
        if "error" in row:
            typer.secho(f"error: {video}: {row['error']}", err=True, fg="red")
        else:
            typer.echo(f"{video}: {row['text']}" if len(given) > 1 else row["text"])
            score = "" if row["score"] is None else f"score {row['score']:.3f}, "
            typer.echo(f"{score}{row['seconds']:.2f} s", err=True)
    if as_json:
        print_json(told)
    return SOME_FAILED if any("error" in row for row in told) else 0


def _load(model: Path) -> ClipTranslator:
    from eval.translation.clip_translator import ClipTranslator
    from pipeline.experiment.finished import open_run as open_finished
    from pipeline.experiment.torch_session import quiet_transformers

    quiet_transformers()
    if (model / "config.yaml").is_file():
        return open_finished(model).translator()
    if (model.parent / "config.yaml").is_file():  # with its beams and length
        return open_finished(model.parent).translator(model.name)
    if not (model / "config.json").is_file():
        raise InputError(model, expected="the folder of an experiment, or of a translator in it", found="neither",
                         remedy="For example runs/demo, or runs/demo/stage1.")  # fmt: skip
    return ClipTranslator.load(model)


@contextlib.contextmanager
def _at_hand(video: str) -> Iterator[Path]:
    """A file or folder; what a URL names is fetched, and removed again.

    Raises:
        InputError: it cannot be fetched, or is larger than ``MAX_DOWNLOAD``.
    """
    if not _is_url(video):
        yield Path(video)
        return
    with tempfile.TemporaryDirectory(prefix="slt-") as folder:
        path = Path(folder, "video" + Path(video.partition("?")[0]).suffix)
        try:
            with urllib.request.urlopen(video, timeout=_SECONDS) as answer, path.open("wb") as file:
                while (data := answer.read(2**20)) and file.tell() <= MAX_DOWNLOAD:
                    file.write(data)
        except (OSError, ValueError) as error:
            raise InputError(video, expected="a video", found=str(error), remedy="Check the address.") from error
        if data:
            raise InputError(video, expected=f"at most {MAX_DOWNLOAD >> 20} MiB", found="more",
                             remedy="Download it, and cut it into sentences.")  # fmt: skip
        yield path


def _is_url(given: str) -> bool:
    return given.startswith(("http://", "https://"))


def _is_video(given: str) -> bool:
    """A file that is no text, as a config is."""
    try:
        with Path(given).open("rb") as file:
            return b"\0" in file.read(4096)
    except OSError:
        return False
