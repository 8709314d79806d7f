"""Images of every kind in frame folders, on real files."""

import os
import struct
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from extract.clip_limits import MAX_PIXELS
from extract.dataset.clip_index import Clip
from extract.decoding.frame_folders import check_folder, list_frames
from extract.decoding.read_ahead import read_ahead
from extract.decoding.read_clip import read_clip
from extract.errors import ClipError
from extract.settings import FrameSettings

SAME = FrameSettings(keep_every=1, resize=16, crop=16)
CLIP = Clip("c", "train", "a", 0, 25.0, "text", "de_DE")
REPOSITORY = Path(__file__).parents[3]

# Rows and columns can be told apart, and so can the colours.
ROWS, COLUMNS = np.mgrid[0:16, 0:16] * 10
PICTURE = np.dstack([40 + COLUMNS, 60 + ROWS, np.full((16, 16), 90)]).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    return tmp_path / "a"


def read(folder: Path) -> np.ndarray:
    """(16, 16, 3) RGB."""
    assert check_folder(folder) == 1
    (frame,) = read_clip(folder.parent, CLIP, SAME)
    return frame.transpose(1, 2, 0).astype(int)


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG whose header claims a size, whatever its data hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + end


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"], ids=["three channels", "four channels", "palette"])
def test_colour_pngs(folder: Path, mode: str) -> None:
    image = Image.fromarray(PICTURE).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(ROWS.astype(np.uint8)))  # what shines through is not guessed
    image.save(folder / "1.png")
    np.testing.assert_array_equal(read(folder), image.convert("RGB"))


def test_grey_pngs_become_three_equal_channels(folder: Path) -> None:
    cv2.imwrite(str(folder / "1.png"), PICTURE[..., 0])
    np.testing.assert_array_equal(read(folder), np.repeat(PICTURE[..., :1], 3, axis=2))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_keep_their_brightness(folder: Path, channels: int) -> None:
    deep = np.repeat(PICTURE[..., :1], channels, axis=2).astype(np.uint16) * 257
    cv2.imwrite(str(folder / "1.png"), deep)
    assert np.abs(read(folder) - PICTURE[..., :1]).max() <= 1


def test_cmyk_jpgs_are_converted(folder: Path) -> None:
    Image.fromarray(PICTURE).convert("CMYK").save(folder / "1.jpg", quality=100, subsampling=0)
    assert np.abs(read(folder) - PICTURE).max() <= 6


@pytest.mark.parametrize(("orientation", "quarters"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_rotation_is_followed(folder: Path, orientation: int, quarters: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PICTURE).save(folder / "1.jpg", quality=100, subsampling=0, exif=exif)
    assert np.abs(read(folder) - np.rot90(PICTURE, quarters)).max() <= 4


def test_frames_of_one_clip_may_differ_in_size_and_kind(folder: Path) -> None:
    for number, side in enumerate((16, 33, 160), start=1):
        Image.new("RGB" if number % 2 else "L", (side, side + 3), 120 if number == 2 else (120,) * 3).save(
            folder / f"{number}.png"
        )
    assert np.unique(read_clip(folder.parent, CLIP, SAME)).tolist() == [120]


@pytest.mark.parametrize("size", [(30000, 30000), (2**16, 2**16), (2**31 - 1, 4), (1, 2**31 - 1), (0, 9)])
def test_a_header_that_claims_too_much_is_a_decode_failure(folder: Path, size: tuple[int, int]) -> None:
    (folder / "1.png").write_bytes(png(*size))
    for look in (lambda: check_folder(folder), lambda: read_clip(folder.parent, CLIP, SAME)):
        with pytest.raises(ClipError, match=r"a/1\.png") as raised:
            look()
        assert raised.value.kind == "decode"


def test_the_limit_holds_in_a_fresh_process_and_costs_no_memory(folder: Path) -> None:
    """OpenCV reads the limit once, when it is loaded."""
    (folder / "1.png").write_bytes(png(8193, 8192))
    code = f"""
        import resource
        from extract.decoding.frame_folders import check_folder
        from pathlib import Path
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            check_folder(Path({str(folder)!r}))
        except Exception as error:
            assert "OpenCV refuses it" in str(error), error
        else:
            raise SystemExit("not refused")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, cwd=REPOSITORY)
    assert MAX_PIXELS < 8193 * 8192


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_image_of_the_other_format_under_the_suffix_is_read(folder: Path, suffix: str) -> None:
    other = "jpg" if suffix == "png" else "png"
    data = cv2.imencode(f".{other}", PICTURE)[1].tobytes()
    (folder / f"1.{suffix}").write_bytes(data)
    assert np.abs(read(folder).astype(int) - PICTURE[:, :, ::-1]).max() < 40


def test_hidden_files_are_no_frames(folder: Path) -> None:
    """As a Mac leaves them beside every file of a foreign disk."""
    for name in (names := ["1.png", "2.png"]):
        (folder / name).write_bytes(png(16, 16))
        (folder / f"._{name}").write_bytes(b"\0\5\x16\7" + bytes(60))
    assert list_frames(folder) == names


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_file_is_named_and_not_waited_for(folder: Path, make: Callable[[Path], None]) -> None:
    make(folder / "1.png")
    for look in (lambda: check_folder(folder), lambda: read_clip(folder.parent, CLIP, SAME)):
        with pytest.raises(ClipError, match=r"1\.png: not a file"):
            look()
    read_ahead(folder.parent, CLIP, 1)
