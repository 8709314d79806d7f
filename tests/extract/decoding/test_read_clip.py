"""Decoding, sampling, resizing, cropping, on real files."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.dataset.clip_index import Clip
from extract.decoding.frame_folders import check_folder, list_frames
from extract.decoding.read_clip import read_clip
from extract.decoding.sampling import sampled
from extract.errors import ClipError
from extract.settings import FrameSettings

SMALL = FrameSettings(keep_every=4, resize=20, crop=16)


def clip(source: str, **changes: object) -> Clip:
    fields = {
        "id": "c",
        "split": "train",
        "source": source,
        "n_frames": 0,
        "fps": 25.0,
        "text": "x",
        "language": "de_DE",
    }
    return Clip(**(fields | changes))  # type: ignore[arg-type]


def write_frames(folder: Path, count: int, size: tuple[int, int] = (26, 21)) -> list[np.ndarray]:
    """Frame ``i`` has the grey value ``10 * i``."""
    folder.mkdir(parents=True)
    images = [np.full((*size, 3), 10 * i, np.uint8) for i in range(count)]
    for number, image in enumerate(images, start=1):
        cv2.imwrite(str(folder / f"images{number:04d}.png"), image)
    return images


@given(frames=st.integers(1, 400), every=st.integers(1, 9), seed=st.integers(0, 9))
def test_sampling_takes_one_of_each_group(frames: int, every: int, seed: int) -> None:
    fixed = sampled(frames, every)
    drawn = sampled(frames, every, np.random.default_rng(seed))
    assert fixed == list(range(0, frames, every))
    assert [i // every for i in drawn] == [i // every for i in fixed]
    assert all(0 <= i < frames for i in drawn)


def test_reads_rgb_sampled_resized_and_cropped(tmp_path: Path) -> None:
    write_frames(tmp_path / "a", 10)
    frames = read_clip(tmp_path, clip("a"), SMALL)
    assert frames.shape == (3, 3, 16, 16)
    assert frames.dtype == np.uint8
    assert frames[:, 0, 0, 0].tolist() == [0, 40, 80]


def test_channels_are_rgb(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    cv2.imwrite(str(tmp_path / "a/images0001.png"), np.full((20, 20, 3), (1, 2, 3), np.uint8))  # OpenCV: BGR
    assert read_clip(tmp_path, clip("a"), SMALL)[0, :, 0, 0].tolist() == [3, 2, 1]


def test_evaluation_crops_the_centre_and_training_one_corner_for_the_whole_clip(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    ramp = np.tile(np.arange(20, dtype=np.uint8)[None, :, None], (20, 1, 3))
    for number in range(1, 6):
        cv2.imwrite(str(tmp_path / f"a/images{number:04d}.png"), ramp)
    settings = FrameSettings(keep_every=1, resize=20, crop=16)
    assert read_clip(tmp_path, clip("a"), settings)[:, 0, 0, 0].tolist() == [2] * 5
    corners = [read_clip(tmp_path, clip("a"), settings, np.random.default_rng(i))[:, 0, 0, 0] for i in range(30)]
    assert all(len(set(corner.tolist())) == 1 for corner in corners)
    assert {int(corner[0]) for corner in corners} == {0, 1, 2, 3, 4}


def test_frames_are_ordered_by_number(tmp_path: Path) -> None:
    write_frames(tmp_path / "a", 12)
    assert list_frames(tmp_path / "a")[9:] == ["images0010.png", "images0011.png", "images0012.png"]


def test_numbers_without_leading_zeros(tmp_path: Path) -> None:
    write_frames(tmp_path / "a", 12)
    for path in (tmp_path / "a").iterdir():
        path.rename(path.with_name(f"{int(path.stem[6:])}.png"))
    assert list_frames(tmp_path / "a") == [f"{number}.png" for number in range(1, 13)]


def garble(path: Path) -> None:
    """Change a byte in the middle; the file's ends stay right."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "kind", "says"),
    [
        (lambda folder: (folder / "images0003.png").unlink(), "missing", "frame number 3 of 1..8"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "empty", "no png or jpg"),
        (lambda folder: [*map(Path.unlink, folder.iterdir()), folder.rmdir()], "missing", "no such"),
        (lambda folder: (folder / "images0002.png").write_bytes(b""), "decode", "images0002.png: truncated"),
        (lambda folder: garble(folder / "images0005.png"), "decode", "images0005.png: not a readable image"),
        (lambda folder: (folder / "2.png").write_bytes(b""), "decode", "frame number 2 twice, 2.png and images0002"),
        (lambda folder: (folder / "thumb.png").write_bytes(b""), "decode", "thumb.png: an image without a frame"),
    ],
)
def test_a_damaged_folder_is_named(tmp_path: Path, damage: object, kind: str, says: str) -> None:
    write_frames(tmp_path / "a", 8)
    damage(tmp_path / "a")  # type: ignore[operator]
    with pytest.raises(ClipError, match=says) as raised:
        check_folder(tmp_path / "a")
    assert raised.value.kind == kind


def test_a_truncated_png_is_a_decode_failure_not_a_grey_picture(tmp_path: Path) -> None:
    write_frames(tmp_path / "a", 4)
    path = tmp_path / "a/images0001.png"
    path.write_bytes(path.read_bytes()[:-20])
    for look in (lambda: check_folder(tmp_path / "a"), lambda: read_clip(tmp_path, clip("a"), SMALL)):
        with pytest.raises(ClipError, match=r"images0001\.png.*truncated"):
            look()


def test_a_png_that_is_not_one_is_a_decode_failure(tmp_path: Path) -> None:
    write_frames(tmp_path / "a", 4)
    (tmp_path / "a/images0001.png").write_bytes(b"text" + b"IEND\xaeB`\x82")
    with pytest.raises(ClipError, match="neither a png nor a jpg image"):
        read_clip(tmp_path, clip("a"), SMALL)


def write_video(path: Path, count: int) -> None:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (32, 32))
    for number in range(count):
        video.write(np.full((32, 32, 3), 10 * number, np.uint8))
    video.release()


def test_video_samples_like_a_frame_folder(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", 10)
    frames = read_clip(tmp_path, clip("a.avi"), SMALL)
    assert np.abs(frames[:, 0, 8, 8].astype(int) - [0, 40, 80]).max() <= 2  # MJPEG is lossy
    drawn = read_clip(tmp_path, clip("a.avi"), SMALL, np.random.default_rng(3))
    assert len(drawn) >= 2


def test_video_between_two_times(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", 20)
    frames = read_clip(tmp_path, clip("a.avi", start=0.2, end=0.6), SMALL)  # frames 5 to 14
    assert np.abs(frames[:, 0, 8, 8].astype(int) - [50, 90, 130]).max() <= 2


@pytest.mark.parametrize(("content", "kind"), [(None, "missing"), (b"", "empty"), (b"no video", "decode")])
def test_a_bad_video_is_named(
    tmp_path: Path, content: bytes | None, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(ClipError, match=r"a\.mp4") as raised:
        read_clip(tmp_path, clip("a.mp4"), SMALL)
    assert raised.value.kind == kind
