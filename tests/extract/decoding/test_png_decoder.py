"""kornia-rs and OpenCV give the same pixels, or the file is left to OpenCV."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from extract.decoding.png_decoder import decode_png

pytest.importorskip("kornia_rs", reason="comes with the extra `fast`")


def saved(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "png", **options)
    return file.getvalue()


def by_opencv(data: bytes) -> np.ndarray | None:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def picture(seed: int, width: int = 21, height: int = 26) -> Image.Image:
    smooth = np.cumsum(np.random.default_rng(seed).integers(-3, 4, (height, width, 3)), axis=1)  # every filter is used
    return Image.fromarray((128 + smooth).astype(np.uint8))


@given(st.integers(0, 2**32), st.integers(1, 90), st.integers(1, 90), st.integers(0, 9))
def test_the_same_pixels(seed: int, width: int, height: int, level: int) -> None:
    data = saved(picture(seed, width, height), compress_level=level)
    decoded = decode_png(data)
    assert decoded is not None
    assert (decoded.dtype, decoded.flags.c_contiguous) == (np.uint8, True)
    np.testing.assert_array_equal(decoded, by_opencv(data))


def test_gamma_and_profiles_change_nothing() -> None:
    for chunks in ([(b"gAMA", (100000).to_bytes(4, "big"))], [(b"sRGB", b"\x01")], [(b"sBIT", b"\x05\x06\x05")]):
        info = PngImagePlugin.PngInfo()
        for name, content in chunks:
            info.add(name, content)
        data = saved(picture(0), pnginfo=info)
        np.testing.assert_array_equal(decode_png(data), by_opencv(data))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "I;16"])
def test_other_kinds_are_opencvs(mode: str) -> None:
    image = Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)) if mode == "I;16" else picture(0)
    assert decode_png(saved(image if mode == "I;16" else image.convert(mode))) is None


def test_rotation_and_transparency_are_opencvs() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_png(saved(picture(0), exif=exif)) is None
    assert decode_png(saved(picture(0), transparency=(128, 128, 128))) is None
    assert decode_png(b"") is decode_png(b"\xff\xd8\xff" * 20) is None


def test_with_any_bit_flipped_it_is_opencvs_or_the_same() -> None:
    whole = saved(picture(1))
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        decoded = decode_png(bytes(damaged))
        if decoded is not None:
            np.testing.assert_array_equal(decoded, by_opencv(bytes(damaged)), err_msg=f"bit {bit} of {8 * len(whole)}")
