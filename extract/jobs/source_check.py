"""Looks: what each frame folder or video file of a dataset was found to hold, kept on disk while an index is made."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path

from extract.dataset.clip_index import Clip
from extract.decoding.decoder_versions import decoder_versions
from extract.decoding.frame_folders import check_folder
from extract.decoding.read_or_failure import found_or_failure
from extract.decoding.video_files import check_span, check_video
from extract.decoding.video_span import VideoFacts
from extract.errors import ClipError
from extract.fingerprint import digest
from extract.settings import Decoder


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What was found at one source. It says nothing about clips: many may be cut from one recording."""

    source: str
    stamp: str | None
    """As ``stamp`` before the look; None where the next run must look again in any case."""
    frames: int = 0
    """Of a frame folder, every one of which was decoded."""
    video: VideoFacts | None = None
    problem: str | None = None
    """Why it cannot be read, ``kind: detail``."""
    files: str | None = None
    """As ``Clip.files``."""

    def at(self, root: Path, clip: Clip, clamp: bool) -> Clip:
        """A clip of this source with what is now known of it: ``n_frames``, ``fps``, or a ``problem``.

        Args:
            clamp: a clip that ends past the end of its recording ends with it; otherwise it has a problem, unless it
                is ``extract.decoding.video_files.OVERSHOOT`` at most.
        """
        clip = dataclasses.replace(clip, files=self.files)
        if self.problem is not None:
            return dataclasses.replace(clip, n_frames=0, problem=self.problem)
        if self.video is None:
            return dataclasses.replace(clip, n_frames=self.frames, counted=True)
        if clamp:
            clip = _clamped(clip, self.video)
        try:
            frames = check_span(root / clip.source, clip, self.video)
        except ClipError as problem:
            return dataclasses.replace(clip, n_frames=0, problem=str(problem))
        counted = self.video.counted and clip.start is None and clip.end is None
        return dataclasses.replace(clip, n_frames=frames, fps=self.video.fps or clip.fps, counted=counted)


def look_at(
    root: Path, source: str, decoder: Decoder, before: Look | None = None, seconds: float | None = None
) -> Look:
    """Look at a frame folder or a video file; at one that is unchanged since it was looked at ``before``, not again.

    No such path counts as a folder, unless it looks like a file.

    Args:
        seconds: that it may take; None: any time.
    """

    def look() -> Look:
        identified = stamp(root / source, changed=False)  # before the look: what changes meanwhile is noticed later
        return dataclasses.replace(_look_at(root, source, decoder, before), files=identified)

    found = found_or_failure(look, str(root / source), seconds)
    return found if isinstance(found, Look) else Look(source, None, problem=str(found))


def _look_at(root: Path, source: str, decoder: Decoder, before: Look | None) -> Look:
    path = root / source
    found = stamp(path)
    if before is not None and found is not None and before.stamp == found:
        return before
    try:
        if path.is_file() or (path.suffix and not path.is_dir()):
            return Look(source, found, video=check_video(path, decoder))
        return Look(source, found, frames=check_folder(path))
    except ClipError as problem:
        return Look(source, found, problem=str(problem))
    except OSError as error:  # no permission, a stale mount: it may be mended without a change to the files
        return Look(source, None, problem=f"decode: {path}: {error.strerror or error}")


def stamp(path: Path, changed: bool = True) -> str | None:
    """A digest of a file's size and times, or of a folder's names with those of each; None where nothing is there.

    Nothing is opened.

    Args:
        changed: the time of the last change of the inode is among them, which no program can set back: a file that was
            replaced by one of the same size and date is noticed. Without, a copy that keeps dates is the same.
    """
    try:
        if not path.is_dir():
            return digest([path.name, *_times(path.stat(), changed)])
        with os.scandir(path) as entries:
            return digest(sorted([entry.name, *_times(entry.stat(), changed)] for entry in entries))
    except OSError:
        return None


class LookFile:
    """Looks on disk, one JSON object a line, in a file named by what they depend on besides the looked-at files.

    That is the root and the decoder with its version. The annotations are not: they decide which clips are cut from a
    source, not what it holds. A line is written in one piece and counts when it is whole, so that a process may be
    killed at any moment; what a second process adds meanwhile does no harm.
    """

    def __init__(self, folder: Path, root: Path, decoder: Decoder) -> None:
        self.path = folder / f"{digest(['looks 2', str(root.resolve()), decoder_versions(decoder)])[:16]}.jsonl"

    def exists(self) -> bool:
        """Whether a run began that did not come to its end."""
        return self.path.is_file()

    def read(self) -> dict[str, Look]:
        """By source; the last look at each."""
        found: dict[str, Look] = {}
        if self.exists():
            with self.path.open("rb") as file:
                for line in file:
                    if (look := _parsed(line)) is not None:
                        found[look.source] = look
        return found

    def add(self, looks: Iterable[Look] = ()) -> None:
        """Keep looks; those that the next run must repeat are left out."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(dataclasses.asdict(look)) for look in looks if look.stamp is not None]
        with self.path.open("ab", buffering=0) as file:
            file.write("\n".join(["", *lines, ""]).encode())  # the first line end closes a line that was cut off


def _parsed(line: bytes) -> Look | None:
    try:
        fields = json.loads(line)
        video = fields.pop("video")
        return Look(**fields, video=VideoFacts(**video) if video is not None else None)
    except (ValueError, TypeError, KeyError, AttributeError):  # cut off by a kill, or of another version
        return None


def _times(found: os.stat_result, changed: bool) -> list[int]:
    return [found.st_size, found.st_mtime_ns, *([found.st_ctime_ns] if changed else [])]


def _clamped(clip: Clip, recording: VideoFacts) -> Clip:
    """Ends with its recording at the latest; a frame more is rounding, and says nothing."""
    if clip.end is None or not recording.duration or not (clip.start or 0) < recording.duration:
        return clip
    if clip.end <= recording.duration + 1 / (recording.fps or clip.fps):
        return clip
    return dataclasses.replace(clip, end=recording.duration)
