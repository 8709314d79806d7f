"""Video files by both decoders: real files of many codecs, whole and damaged."""

import contextlib
import dataclasses
import struct
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.dataset.clip_index import Clip
from extract.decoding.read_clip import read_clip
from extract.decoding.sampling import sample_stream, sampled
from extract.decoding.video_files import check_span, check_video
from extract.errors import ClipError
from extract.settings import FrameSettings

DECODERS = ("opencv", "pyav")
EVERY = 4


def clip(source: str, **changes: object) -> Clip:
    return dataclasses.replace(Clip("c", "train", source, 0, 25.0, "text", "de_DE"), **changes)


def frames_of(decoder: str, every: int = EVERY, side: int = 16) -> FrameSettings:
    return FrameSettings(decoder=decoder, keep_every=every, resize=side, crop=side)


def grey(number: int) -> int:
    """Of frame ``number``, far enough from its neighbours' to tell them apart after compression."""
    return 20 + 8 * number % 216


def write_video(
    path: Path, count: int, codec: str = "libx264", size: tuple[int, int] = (64, 48), pixels: str = "yuv420p",
    milliseconds: Sequence[int] | None = None, positions: Sequence[int] | None = None,
    container: dict[str, str] | None = None, **options: str,
) -> Path:  # fmt: skip
    """Frame ``i`` is ``grey(i)``; 25 fps, or at the given times, or at some places of 25 fps."""
    tick = Fraction(1, 1000) if milliseconds is not None else Fraction(1, 25)
    times = milliseconds if milliseconds is not None else positions
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.codec_context.time_base = tick
        for number in range(count):
            image = np.full((size[1], size[0], 3), grey(number), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number if times is None else times[number]
            frame.time_base = tick
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def greys(root: Path, one: Clip, of: FrameSettings, rng: np.random.Generator | None = None) -> list[int]:
    frames = read_clip(root, one, of, rng)
    assert frames.dtype == np.uint8
    assert frames.shape[1:] == (3, of.crop, of.crop)
    return [round(float(frame.mean())) for frame in frames]


def assert_greys(found: list[int], numbers: Sequence[int], within: int = 3) -> None:
    expected = [grey(number) for number in numbers]
    assert len(found) == len(expected)
    assert np.abs(np.subtract(found, expected)).max() <= within, (found, expected)


CODECS = {
    "h264.mp4": {"codec": "libx264"},
    "h264.mkv": {"codec": "libx264"},
    "h264.ts": {"codec": "libx264"},
    "h264 without time stamps.avi": {"codec": "libx264"},
    "fragmented.mp4": {"codec": "libx264", "g": "8", "container": {"movflags": "frag_keyframe+empty_moov"}},
    "hevc.mp4": {"codec": "libx265", "size": (128, 96), "x265-params": "log-level=none"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "mpeg4.avi": {"codec": "mpeg4", "bf": "2", "qmin": "1", "qmax": "1"},
    "mpeg4.mp4": {"codec": "mpeg4", "qmin": "1", "qmax": "1"},
    "mpeg2.mpg": {"codec": "mpeg2video", "bf": "2", "qmin": "1", "qmax": "1"},
    "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "prores.mov": {"codec": "prores", "pixels": "yuv422p10le"},
    "ffv1.mkv": {"codec": "ffv1"},
    "odd size.mp4": {"codec": "libx264", "size": (63, 47), "pixels": "yuv444p"},
    "Gebärde mit Leerzeichen 手語.mp4": {"codec": "libx264"},
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, fields in CODECS.items():
        write_video(folder / name, 26, **fields)  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_codec_gives_the_sampled_frames(library: Path, name: str, decoder: str) -> None:
    assert_greys(greys(library, clip(name), frames_of(decoder)), range(0, 26, EVERY))
    assert_greys(greys(library, clip(name), frames_of(decoder, every=1)), range(26))


@pytest.mark.parametrize("name", CODECS)
def test_both_decoders_draw_the_frames_that_a_folder_would(library: Path, name: str) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        rng.integers(0, 1, size=2)  # the crop, which has no slack here
        wanted = sampled(26, EVERY, rng)
        for decoder in DECODERS:
            found = greys(library, clip(name), frames_of(decoder), np.random.default_rng(seed))
            assert_greys(found, wanted)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_clip_is_cut_by_time(library: Path, name: str, decoder: str) -> None:
    # 0.2 s is frame 5, the first; 0.68 s is frame 17, the first that does not belong to it.
    assert_greys(greys(library, clip(name, start=0.2, end=0.68), frames_of(decoder)), [5, 9, 13])
    assert_greys(greys(library, clip(name, start=0.17), frames_of(decoder)), [5, 9, 13, 17, 21, 25])


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_the_check_finds_nothing_wrong_and_counts(library: Path, name: str, decoder: str) -> None:
    facts = check_video(library / name, decoder)
    assert facts.fps == pytest.approx(25, abs=0.01)
    assert facts.frames == 26
    assert check_span(library / name, clip(name), facts) == 26
    assert check_span(library / name, clip(name, start=0.2, end=0.68), facts) == 12


@settings(max_examples=200, deadline=None)
@given(count=st.integers(0, 40), every=st.integers(1, 9), seed=st.none() | st.integers(0, 99))
def test_a_stream_is_sampled_like_a_list(count: int, every: int, seed: int | None) -> None:
    first, second = (None if seed is None else np.random.default_rng(seed) for _ in range(2))
    stream = (lambda i=i: np.full((1, 1, 3), i, np.uint8) for i in range(count))
    kept = [int(frame[0, 0, 0]) for frame in sample_stream(stream, every, first)]
    assert kept == sampled(count, every, second)
    if first is not None and second is not None:
        assert first.bit_generator.state == second.bit_generator.state


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (64, 170, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"bf": "3"}),
        ("a.mp4", "libx264", {"bf": "0"}),
        ("a.mp4", "libx264", {"x264-params": "open-gop=1:keyint=7:min-keyint=7:scenecut=0"}),
        ("a.mkv", "libx264", {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0"}),
        ("a.ts", "libx264", {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0"}),
        ("a.mp4", "libx265", {"x265-params": "log-level=none:keyint=9:min-keyint=9"}),
        ("a.webm", "libvpx-vp9", {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "16"}),
        ("a.mp4", "mpeg4", {"bf": "2", "g": "10"}),
        ("a.mpg", "mpeg2video", {"bf": "2", "g": "10"}),
    ],
)
def test_skipping_and_seeking_leave_the_kept_frames_as_they_are(
    tmp_path: Path, scene: np.ndarray, name: str, codec: str, options: dict[str, str]
) -> None:
    with av.open(str(tmp_path / name), "w") as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(60):
            image = np.ascontiguousarray(scene[:, number : number + 96])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))
    for decoder in DECODERS:
        every_frame = read_clip(tmp_path, clip(name), frames_of(decoder, every=1, side=32))
        assert len(np.unique(every_frame, axis=0)) == 60
        for every in (2, 3, 4, 7):
            kept = read_clip(tmp_path, clip(name), frames_of(decoder, every=every, side=32))
            np.testing.assert_array_equal(kept, every_frame[::every])
        for start in range(0, 58, 1 if decoder == "pyav" else 9):
            cut = clip(name, start=start / 25, end=(start + 5) / 25)
            found = read_clip(tmp_path, cut, frames_of(decoder, every=2, side=32))
            np.testing.assert_array_equal(found, every_frame[start : start + 5 : 2])


TIMES = np.cumsum([0, *[40, 20, 100, 300] * 8]).tolist()[:30]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_variable_frame_rate_is_cut_by_time_stamps(tmp_path: Path, name: str, decoder: str) -> None:
    write_video(tmp_path / name, len(TIMES), milliseconds=TIMES)
    every = frames_of(decoder, every=1)
    for start, end in ((0.0, 0.16), (0.04, 0.46), (1.0, 2.5)):
        inside = [i for i, time in enumerate(TIMES) if 1000 * start <= time < 1000 * end]
        assert_greys(greys(tmp_path, clip(name, start=start, end=end), every), inside)
    assert_greys(greys(tmp_path, clip(name), every), range(len(TIMES)))
    assert check_video(tmp_path / name, decoder).duration == pytest.approx(TIMES[-1] / 1000, abs=0.4)


POSITIONS = [0, 1, 2, 11, 17, 18, 24, 30, 31, 32, 40, 46, 47, 55]
"""Of the frames of an AVI that a camera dropped frames of; 42 chunks between them are empty."""


@pytest.mark.parametrize("codec", ["mjpeg", "mpeg4"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_frames_that_avi_declares_dropped_are_no_damage(tmp_path: Path, codec: str, decoder: str) -> None:
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    write_video(tmp_path / "a.avi", len(POSITIONS), codec, pixels=pixels, positions=POSITIONS, qmin="1", qmax="1")
    assert (tmp_path / "a.avi").read_bytes().count(b"00dc") > 2 * POSITIONS[-1]  # of data and index
    every = frames_of(decoder, every=1)
    assert_greys(greys(tmp_path, clip("a.avi"), every), range(len(POSITIONS)))
    for start, end in ((0.0, 0.44), (0.44, 1.2), (1.6, 2.24)):
        inside = [i for i, at in enumerate(POSITIONS) if 25 * start - 1e-6 <= at < 25 * end - 1e-6]
        assert_greys(greys(tmp_path, clip("a.avi", start=start, end=end), every), inside)
    facts = check_video(tmp_path / "a.avi", decoder)
    assert (facts.frames, facts.counted, facts.problem) == (len(POSITIONS), True, None)
    assert facts.duration == pytest.approx(56 / 25)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_lost_frames_of_avi_are_not_taken_for_dropped_ones(tmp_path: Path, codec: str, decoder: str) -> None:
    path = write_video(tmp_path / "a.avi", 30, codec, g="1")
    data = bytearray(path.read_bytes())
    place = data.index(b"movi") + 4
    for number in range(30):
        tag, size = struct.unpack_from("<4sI", data, place)
        assert tag == b"00dc"
        if 10 <= number < 16:  # nothing, or of h264 a mark between frames
            data[place + 8 : place + 8 + size] = (b"\0\0\0\1\x09\xf0" * (codec == "libx264")).ljust(size, b"\0")
        place += 8 + size + size % 2
    path.write_bytes(bytes(data))
    expect("decode", tmp_path, clip("a.avi"), decoder)


@pytest.mark.parametrize("lie", [0, 1, 10**12])
@pytest.mark.parametrize("decoder", DECODERS)
def test_nothing_believes_the_number_of_frames_in_the_index(library: Path, decoder: str, lie: int) -> None:
    for changes in ({}, {"start": 0.0, "end": 1.04}):
        found = greys(library, clip("h264.mp4", n_frames=lie, counted=True, **changes), frames_of(decoder))
        assert_greys(found, range(0, 26, EVERY))


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_count_is_said_to_be_one_only_where_all_was_decoded(library: Path, name: str, decoder: str) -> None:
    """26 frames last longer than the second at whose start a container with time stamps is sought."""
    sought = name.endswith((".mp4", ".mkv", ".webm", ".mov"))
    assert check_video(library / name, decoder).counted == (not sought)


@pytest.mark.parametrize("name", ["long.mp4", "long.mkv", "long.ts", "long.webm", "uneven.mp4", "uneven.mkv"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_clip_late_in_a_recording_is_found(tmp_path: Path, name: str, decoder: str) -> None:
    times = np.cumsum([0, *[20] * 200, *[60] * 199]).tolist() if "uneven" in name else [40 * i for i in range(400)]
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    write_video(tmp_path / name, 400, codec, milliseconds=times, g="50")
    for start in (3.99, 4.7, 9.0, 12.0):
        inside = [i for i, time in enumerate(times) if 1000 * start <= time < 1000 * start + 500]
        found = greys(tmp_path, clip(name, start=start, end=start + 0.5), frames_of(decoder, every=1))
        assert_greys(found, inside)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_metadata_is_followed(tmp_path: Path, decoder: str, degrees: int) -> None:
    source = tmp_path / "plain.mp4"
    quarters = np.zeros((64, 96, 3), np.uint8)
    quarters[:32, :48], quarters[:32, 48:], quarters[32:, :48], quarters[32:, 48:] = 40, 90, 140, 200
    with av.open(str(source), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(5):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(quarters, format="rgb24")))
        file.mux(stream.encode(None))
    data = source.read_bytes()
    matrix = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]  # clockwise
    a, b, c, d = (value << 16 for value in matrix)
    track = data.index(b"tkhd")
    place = data.index(struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30), track)
    turned = data[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[place + 36 :]
    (tmp_path / "turned.mp4").write_bytes(turned)

    found = read_clip(tmp_path, clip("turned.mp4"), frames_of(decoder))[0, 0]
    expected = np.rot90(np.array([[40, 90], [140, 200]]), -degrees // 90)
    corners = found[[3, 3, 12, 12], [3, 12, 3, 12]].reshape(2, 2).astype(int)
    assert np.abs(corners - expected).max() <= 4, corners


@pytest.mark.parametrize("decoder", DECODERS)
def test_colours_are_right(tmp_path: Path, decoder: str) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(3):
            image = np.full((64, 64, 3), (200, 90, 30), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))
    red, green, blue = read_clip(tmp_path, clip("a.mp4"), frames_of(decoder))[0].mean(axis=(1, 2))
    assert abs(red - 200) < 5
    assert abs(green - 90) < 5
    assert abs(blue - 30) < 5


@pytest.mark.parametrize("decoder", DECODERS)
def test_one_frame_is_a_clip(tmp_path: Path, decoder: str) -> None:
    write_video(tmp_path / "a.mp4", 1)
    assert_greys(greys(tmp_path, clip("a.mp4"), frames_of(decoder)), [0])
    for seed in range(5):
        assert_greys(greys(tmp_path, clip("a.mp4"), frames_of(decoder), np.random.default_rng(seed)), [0])
    assert check_video(tmp_path / "a.mp4", decoder).frames == 1


@pytest.mark.parametrize("decoder", DECODERS)
def test_4k_is_read(tmp_path: Path, decoder: str) -> None:
    write_video(tmp_path / "a.mp4", 9, size=(3840, 2160), preset="ultrafast")
    assert_greys(greys(tmp_path, clip("a.mp4"), frames_of(decoder)), [0, 4, 8])


@pytest.mark.parametrize("decoder", DECODERS)
def test_an_mp4_with_the_wrong_suffix_is_read(tmp_path: Path, decoder: str) -> None:
    write_video(tmp_path / "a.mp4", 9).rename(tmp_path / "a.avi")
    assert_greys(greys(tmp_path, clip("a.avi"), frames_of(decoder)), [0, 4, 8])


# Damage


def expect(kind: str, root: Path, one: Clip, decoder: str, says: str = ".") -> None:
    """Reading and checking both refuse, by name."""
    for rng in (None, np.random.default_rng(0)):
        with pytest.raises(ClipError, match=says) as raised:
            read_clip(root, one, frames_of(decoder), rng)
        assert raised.value.kind == kind, raised.value
        assert one.source in raised.value.detail
    with pytest.raises(ClipError, match=says) as raised:
        check_span(root / one.source, one, check_video(root / one.source, decoder))
    assert raised.value.kind == kind
    assert one.source in raised.value.detail


WHOLE = {
    "faststart.mp4": {"codec": "libx264", "container": {"movflags": "faststart"}},
    "end.mp4": {"codec": "libx264"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "h264.mkv": {"codec": "libx264"},
    "vp9.webm": {"codec": "libvpx-vp9"},
}


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_truncated_file_is_a_failure(
    tmp_path: Path, name: str, decoder: str, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / name, 150, **WHOLE[name])  # type: ignore[arg-type]
    capfd.readouterr()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    expect("decode", tmp_path, clip(name), decoder)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("decoder", DECODERS)
def test_what_lies_before_the_cut_of_a_truncated_recording_can_be_used(tmp_path: Path, decoder: str) -> None:
    path = write_video(tmp_path / "a.mkv", 150, g="10")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    early = clip("a.mkv", start=0.4, end=0.8)
    assert_greys(greys(tmp_path, early, frames_of(decoder)), [10, 14, 18])
    assert check_span(path, early, check_video(path, decoder)) == 10
    expect("decode", tmp_path, clip("a.mkv", start=4.0, end=5.0), decoder, "promises 150 frames")


@pytest.mark.parametrize("decoder", DECODERS)
def test_sound_that_goes_on_after_the_pictures_is_no_damage(tmp_path: Path, decoder: str) -> None:
    for name in ("a.mp4", "a.mkv"):
        with av.open(str(tmp_path / name), "w") as file:
            picture, sound = file.add_stream("libx264", rate=25), file.add_stream("aac", rate=16000)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
            for number in range(20):
                image = np.full((48, 64, 3), grey(number), np.uint8)
                file.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            file.mux(picture.encode(None))
            for number in range(18):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.pts = 16000, 1024 * number
                file.mux(sound.encode(silence))
            file.mux(sound.encode(None))
        assert_greys(greys(tmp_path, clip(name), frames_of(decoder)), range(0, 20, 4))
        check_video(tmp_path / name, decoder)


@pytest.mark.parametrize("decoder", DECODERS)
def test_damage_in_the_middle_is_a_failure(tmp_path: Path, decoder: str) -> None:
    path = write_video(tmp_path / "a.mp4", 100, size=(320, 240), crf="10", g="10")
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 3
    data[middle : middle + 600] = np.random.default_rng(0).bytes(600)
    path.write_bytes(bytes(data))
    with pytest.raises(ClipError, match=r"a\.mp4.*damaged") as raised:
        read_clip(tmp_path, clip("a.mp4"), frames_of(decoder))
    assert raised.value.kind == "decode"


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_length_beyond_any_file_is_damage(tmp_path: Path, library: Path, decoder: str) -> None:
    data = bytearray((library / "h264.mkv").read_bytes()[:546])
    data[217] = 206
    (tmp_path / "a.mkv").write_bytes(data)
    with pytest.raises(ClipError):
        read_clip(tmp_path, clip("a.mkv"), frames_of(decoder))


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "mpeg4.avi", "h264.ts", "fragmented.mp4"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_damage_ends_in_frames_or_in_a_clip_error(library: Path, name: str, data: st.DataObject) -> None:
    damaged = bytearray((library / name).read_bytes())
    places = st.integers(0, len(damaged) - 1) | st.integers(0, 600) | st.integers(len(damaged) - 600, len(damaged) - 1)
    for place, value in data.draw(st.dictionaries(places, st.integers(0, 255), min_size=1, max_size=12)).items():
        damaged[place] = value
    del damaged[data.draw(st.integers(1, len(damaged))) :]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.mp4").write_bytes(damaged)
        for decoder in DECODERS:
            with contextlib.suppress(ClipError):  # any other error fails
                found = read_clip(Path(folder), clip("a.mp4"), frames_of(decoder))
                assert found.shape[1:] == (3, 16, 16)
            with contextlib.suppress(ClipError):
                assert check_video(Path(folder, "a.mp4"), decoder).frames >= 0


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as file:
        sound = file.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        file.mux(sound.encode(frame))
        file.mux(sound.encode(None))


def write_no_frames(path: Path) -> None:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (64, 48))
    video.release()
    assert path.stat().st_size > 0


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: None, "missing"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_text("not a video " * 200, "utf-8"), "decode"),
        (lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)), "decode"),
        (write_no_frames, "decode"),
        (lambda path: path.write_bytes(b"\x00\x00\x00\x18ftypisom"), "decode"),
        (write_sound, "decode"),
    ],
    ids=["absent", "zero bytes", "text", "noise", "no frames", "header only", "sound only"],
)
@pytest.mark.parametrize("decoder", DECODERS)
def test_what_is_no_video_is_named(
    tmp_path: Path, make: object, kind: str, decoder: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "ein Clip ä.mp4")  # type: ignore[operator]
    capfd.readouterr()
    expect(kind, tmp_path, clip("ein Clip ä.mp4"), decoder)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("decoder", DECODERS)
def test_times_outside_of_a_recording_are_named(tmp_path: Path, decoder: str) -> None:
    write_video(tmp_path / "a.mp4", 50)  # 2 s
    expect("missing", tmp_path, clip("a.mp4", start=2.0, end=2.4), decoder, "of a recording of 2.00 s")
    expect("missing", tmp_path, clip("a.mp4", start=1.0, end=9.0), decoder, "of a recording of 2.00 s")
    expect("empty", tmp_path, clip("a.mp4", start=1.0, end=1.0), decoder)
    expect("empty", tmp_path, clip("a.mp4", start=-1.0, end=1.0), decoder)
    assert_greys(greys(tmp_path, clip("a.mp4", start=1.6, end=2.3), frames_of(decoder)), [40, 44, 48])
    with pytest.raises(ClipError, match=r"a\.mp4: no frame between 1\.001 and 1\.039"):
        read_clip(tmp_path, clip("a.mp4", start=1.001, end=1.039), frames_of(decoder))


@pytest.mark.long
@pytest.mark.parametrize("decoder", DECODERS)
def test_too_many_pixels_are_refused(tmp_path: Path, decoder: str) -> None:
    write_video(tmp_path / "a.avi", 2, "mjpeg", size=(8190, 8202), pixels="yuvj420p")
    expect("decode", tmp_path, clip("a.avi"), decoder, "8190 x 8202 pixels")


@pytest.mark.parametrize("decoder", DECODERS)
def test_too_long_a_clip_is_refused(tmp_path: Path, decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", 50)
    monkeypatch.setattr("extract.clip_limits.MAX_CLIP_BYTES", 12 * 16 * 16 * 3)
    with pytest.raises(ClipError, match=r"a\.mp4: 13 sampled frames .*cut it into clips"):
        read_clip(tmp_path, clip("a.mp4"), frames_of(decoder))
    assert len(read_clip(tmp_path, clip("a.mp4", end=1.9), frames_of(decoder))) == 12


def test_a_codec_that_opencv_lacks_is_a_failure_there_and_not_by_pyav(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 9, "libsvtav1", size=(128, 96))
    expect("decode", tmp_path, clip("a.mp4"), "opencv")
    assert_greys(greys(tmp_path, clip("a.mp4"), frames_of("pyav")), [0, 4, 8])


def with_sound(path: Path, frames: int, begin: int, sound: float) -> Path:
    """Pictures from frame time ``begin`` on, and that many seconds of sound from zero on."""
    with av.open(str(path), "w") as file:
        pictures = file.add_stream("libx264", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        tone = file.add_stream("aac", rate=16000)
        for number in range(int(sound * 16000 / 1024)):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 16000, 1024 * number
            file.mux(tone.encode(silence))
        file.mux(tone.encode(None))
        for number in range(frames):
            image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), grey(number), np.uint8), format="rgb24")
            image.pts, image.time_base = begin + number, Fraction(1, 25)
            file.mux(pictures.encode(image))
        file.mux(pictures.encode(None))
    return path


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_pictures_that_start_after_the_sound_are_cut_on_a_players_clock(
    tmp_path: Path, name: str, decoder: str
) -> None:
    path = with_sound(tmp_path / name, frames=24, begin=50, sound=5.0)
    facts = check_video(path, decoder)
    assert facts.problem is None
    assert facts.delay == pytest.approx(2.0)
    assert_greys(greys(tmp_path, clip(name), frames_of(decoder)), range(0, 24, 4))
    part = clip(name, start=2.16, end=2.8)
    assert_greys(greys(tmp_path, part, frames_of(decoder, 1)), range(4, 20))
    assert check_span(path, part, facts) == 16
    with pytest.raises(ClipError, match="no frame between"):
        greys(tmp_path, clip(name, start=0.5, end=1.5), frames_of(decoder, 1))


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_matroska_file_that_ends_early_is_a_failure_whatever_its_sound_says(tmp_path: Path, decoder: str) -> None:
    path = with_sound(tmp_path / "a.mkv", frames=100, begin=0, sound=8.0)
    whole = path.read_bytes()
    assert len(greys(tmp_path, clip("a.mkv"), frames_of(decoder))) == 25
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ClipError, match="truncated"):
        greys(tmp_path, clip("a.mkv"), frames_of(decoder))


@pytest.mark.parametrize("decoder", DECODERS)
def test_what_an_edit_list_hides_is_not_missed(tmp_path: Path, decoder: str) -> None:
    """A cut without encoding, as LosslessCut makes it: the frames from the keyframe to the cut stay in the file."""
    write_video(tmp_path / "whole.mp4", 60, g="250", bf="0")
    with (
        av.open(str(tmp_path / "whole.mp4")) as source,
        av.open(str(tmp_path / "cut.mp4"), "w", options={"avoid_negative_ts": "disabled"}) as file,
    ):
        stream = file.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                shift = int(20 / 25 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                file.mux(packet)
    facts = check_video(tmp_path / "cut.mp4", decoder)
    assert (facts.frames, facts.problem) == (40, None)
    assert_greys(greys(tmp_path, clip("cut.mp4"), frames_of(decoder)), range(20, 60, 4))
    assert_greys(greys(tmp_path, clip("cut.mp4", start=0.4, end=0.8), frames_of(decoder, 1)), range(30, 40))
    lost = (tmp_path / "cut.mp4").read_bytes()
    (tmp_path / "lost.mp4").write_bytes(lost[: lost.index(b"mdat") + 200] + bytes(len(lost)))
    with pytest.raises(ClipError):
        greys(tmp_path, clip("lost.mp4"), frames_of(decoder))


def test_interlaced_frames_are_shown_or_refused(tmp_path: Path) -> None:
    """OpenCV's converter refuses them, and what lay in memory would be taken for pictures."""
    interlaced = {"flags": "+ilme+ildct", "x264-params": "tff=1"}
    path = write_video(tmp_path / "a.mp4", 24, **interlaced)
    assert_greys(greys(tmp_path, clip("a.mp4"), frames_of("pyav")), range(0, 24, 4))
    for look in (
        lambda: check_video(path),
        lambda: greys(tmp_path, clip("a.mp4"), frames_of("opencv")),
        lambda: greys(tmp_path, clip("a.mp4"), frames_of("opencv"), np.random.default_rng(0)),
    ):
        with pytest.raises(ClipError, match="interlaced"):  # until a version of OpenCV converts them
            look()


def test_a_video_that_stands_still_is_no_failure(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 12, positions=range(12))
    with av.open(str(tmp_path / "still.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(12):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")))
        file.mux(stream.encode(None))
    check_video(tmp_path / "still.mp4")
    assert greys(tmp_path, clip("still.mp4"), frames_of("opencv")) == pytest.approx([90] * 3, abs=3)


@pytest.mark.parametrize("every", [1, 4])
def test_pyav_refuses_a_clip_when_a_frame_between_those_that_are_kept_is_damaged(tmp_path: Path, every: int) -> None:
    """The frames that refer to a damaged one look wrong and are not marked."""
    path = write_video(tmp_path / "a.mp4", 60, size=(160, 128), crf="10", g="60", bf="0")
    data = bytearray(path.read_bytes())
    refused = 0
    for part in range(2, 12):
        damaged = bytearray(data)
        at = data.index(b"mdat") + len(data) * part // 16
        for place in range(at, at + 20):
            damaged[place] ^= 0x5A
        path.write_bytes(bytes(damaged))
        try:
            greys(tmp_path, clip("a.mp4"), frames_of("pyav", every))
        except ClipError as error:
            refused += "damaged" in error.detail
    assert refused >= 3
