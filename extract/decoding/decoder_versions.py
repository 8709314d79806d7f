"""What decides a clip's pixels, for the provenance of features."""

from __future__ import annotations

import importlib.metadata
from typing import Any

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


def jpeg_pack(quality: int | None, decoder: str) -> dict[str, Any] | None:
    """What a pack of JPEG does to pixels, for the provenance; None of a lossless one, and of a dataset's own files.

    Args:
        quality: of JPEG.
        decoder: ``ExtractSettings.jpeg_decoder``.

    Raises:
        InputError: nvImageCodec is asked for and not installed, or there is no JPEG for it.
    """
    remedy = "or set extract.jpeg_decoder to opencv."
    if decoder == "opencv":
        return None if quality is None else {"codec": "jpeg", "quality": quality}
    if quality is None:
        raise InputError("extract.jpeg_decoder nvimgcodec", expected="a pack of JPEG", found="other frames",
                         remedy=f"Set pack.enabled and pack.quality, {remedy}")  # fmt: skip
    for package in ("nvidia-nvimgcodec-cu13", "nvidia-nvimgcodec-cu12"):
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        return {"codec": "jpeg", "quality": quality, "decoder": f"nvimgcodec {version}"}
    raise InputError("extract.jpeg_decoder nvimgcodec", expected="the package nvidia-nvimgcodec-cu13",
                     found="none installed", remedy=f"Install the extra `gpu`, {remedy}")  # fmt: skip
