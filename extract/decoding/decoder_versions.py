"""What decides a clip's pixels, for the provenance of features."""

from __future__ import annotations

import cv2

from extract.errors import InputError
from extract.settings import Decoder

OPENCV = f"opencv {cv2.__version__}"
"""Decoders and resize filters differ in the last bits from version to version, and features with them."""


def decoder_versions(decoder: Decoder) -> str:
    """The libraries that decide pixels: OpenCV's, and with ``pyav`` PyAV's and ffmpeg's besides.

    OpenCV stays part of it, because it reads the frame folders that a dataset may have among its videos.

    Raises:
        InputError: PyAV is asked for and not installed.
    """
    if decoder == "opencv":
        return OPENCV
    try:
        from extract.decoding.pyav_video import version
    except ModuleNotFoundError:
        raise InputError("frames.decoder pyav", expected="the package av", found="none installed",
                         remedy="Install the extra `video`, or set frames.decoder to opencv.") from None  # fmt: skip
    return f"{version()}, {OPENCV}"
