"""Pixels to features: clip index, dataset adapters, decoding, visual encoder, Dask job, feature store."""

import os

from extract.clip_limits import MAX_PIXELS

# OpenCV reads these when it is loaded and when it opens its first video, so they are set before any module imports it.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what matters of the messages becomes a ClipError
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
