"""Images with bytes after their end, cut off anywhere, or with a hole in the middle."""

import cv2
import numpy as np
import pytest

from extract.decoding.image_end import has_hole, image_end

NOISE = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
FLAT = np.zeros((240, 320, 3), np.uint8)
FLAT[:40, :40] = NOISE[:40, :40]
FORMS = [
    (".png", []),
    (".jpg", []),
    (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    (".jpg", [cv2.IMWRITE_JPEG_OPTIMIZE, 1]),
    (".jpg", [cv2.IMWRITE_JPEG_RST_INTERVAL, 4]),
]


def encoded(image: np.ndarray, suffix: str, options: list[int]) -> bytes:
    return cv2.imencode(suffix, image, options)[1].tobytes()


@pytest.mark.parametrize(("suffix", "options"), FORMS)
def test_the_end_is_found_whatever_follows_and_not_before_it_is_there(suffix: str, options: list[int]) -> None:
    data = encoded(NOISE, suffix, options)
    end = len(data) - (8 if suffix == ".png" else 2)
    assert image_end(data) == end
    assert image_end(data + bytes(512)) == end
    assert image_end(data + data) == end
    assert all(image_end(data[:cut]) is None for cut in range(0, len(data) - 4, 97))


def test_the_end_of_a_thumbnail_is_not_that_of_the_picture() -> None:
    picture, small = encoded(NOISE, ".jpg", []), encoded(NOISE[:8, :8], ".jpg", [])
    data = picture[:2] + b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small + picture[2:]
    assert image_end(data) == len(data) - 2
    assert image_end(data[:-2]) is None


@pytest.mark.parametrize(("suffix", "options"), FORMS[1:])
@pytest.mark.parametrize("image", [NOISE, FLAT, FLAT * 0 + 128])
def test_a_whole_jpeg_has_no_hole(image: np.ndarray, suffix: str, options: list[int]) -> None:
    data = encoded(image, suffix, options)
    assert not has_hole(data, image_end(data) or 0, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))


@pytest.mark.parametrize(("suffix", "options"), FORMS[1:4])
@pytest.mark.parametrize("place", [(0.5, 1.0), (0.3, 0.4), (0.5, 0.8), (0.9, 1.0)])
def test_zeros_in_place_of_pixels_are_a_hole(suffix: str, options: list[int], place: tuple[float, float]) -> None:
    data = bytearray(encoded(NOISE, suffix, options))
    end = image_end(bytes(data)) or 0
    first, last = (int(share * end) for share in place)
    data[first:last] = bytes(last - first)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert has_hole(bytes(data), end, image)
