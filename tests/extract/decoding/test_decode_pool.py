"""Decoding by processes: what decoding in turn gives, whatever happens to the processes."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from extract.dataset.clip_index import Clip
from extract.decoding import decode_pool
from extract.decoding.clip_decoder import ClipDecoder
from extract.decoding.decode_pool import DecodePool, shared_pool
from extract.errors import ClipError, InputError
from extract.settings import FrameSettings, View

REPOSITORY = Path(__file__).parents[3]
FRAMES = FrameSettings(keep_every=2, resize=32, crop=28)
VIEWS = (View(), View(phase=1, crop=(0.0, 1.0)), View(scale=1.25))
FRAME = 3 * 28 * 28
PECULIAR = """
    import os, signal, time
    import numpy as np
    from extract.errors import InputError

    class Peculiar:
        quality = None

        def __init__(self, folder):
            self.folder = folder

        def squares(self, clip, settings, rng=None, phase=0):
            mark = self.folder / clip.id
            if clip.source == "refuses":
                raise InputError("it", expected="a", found="b", remedy="Mend it.")
            if clip.source == "kills" or (clip.source == "kills once" and not mark.exists()):
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if clip.source == "sleeps":
                mark.write_text(str(os.getpid()))
                time.sleep(600)
            print("a library that is talkative")
            yield np.full((settings.resize, settings.resize, 3), len(clip.id), np.uint8)
"""


def clip(id: str, source: str, **changes: object) -> Clip:
    return Clip(id, "train", source, 0, 25.0, "", "de_DE", **changes)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frame folders of 1 to 12 PNG, one of them damaged, and a video."""
    folder = tmp_path_factory.mktemp("root")
    for number in range(12):
        (folder / f"png{number}").mkdir()
        for frame in range(1 + number):
            image = np.random.default_rng([number, frame]).integers(0, 256, (36, 40, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / f"png{number}/{frame:04d}.png"), image)
    (folder / "png5/0002.png").write_bytes(b"no image")
    with av.open(str(folder / "video.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(30):
            image = np.random.default_rng(number // 5).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode())
    return folder


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [
        *(clip(f"png{number}", f"png{number}") for number in range(12)), clip("absent", "absent"),
        clip("video", "video.mp4"), clip("part", "video.mp4", start=0.2, end=0.8),
        clip("known", "png1", problem="decode: found while indexing"),
    ]  # fmt: skip


@pytest.fixture
def peculiar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClipDecoder:
    """A source that misbehaves as a clip's ``source`` says."""
    (tmp_path / "peculiar.py").write_text(textwrap.dedent(PECULIAR))
    monkeypatch.syspath_prepend(str(tmp_path))
    import peculiar

    yield ClipDecoder(peculiar.Peculiar(tmp_path), FRAMES, (View(),))
    del sys.modules["peculiar"]


@contextlib.contextmanager
def pool(count: int, **options: int) -> Iterator[DecodePool]:
    made = DecodePool(count, **options)
    pids = pids_of(made)
    try:
        yield made
    finally:
        pids |= pids_of(made)
        made.close()
        wait_until(lambda: not any(map(alive, pids)))


def pids_of(made: DecodePool) -> set[int]:
    return {process.process.pid for process in made.processes}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def decode(made: DecodePool, decoder: ClipDecoder, clips: list[Clip]) -> list[list[np.ndarray] | str]:
    found = []
    with made.decoding(decoder, clips) as decoded:
        for one in decoded:
            found.append(str(one.found) if isinstance(one.found, ClipError) else [view.copy() for view in one.found])
    return found


@pytest.mark.parametrize("slot_bytes", [48 << 20, 3 * FRAME * 3, 1])
def test_processes_give_what_decoding_in_turn_gives(root: Path, clips: list[Clip], slot_bytes: int) -> None:
    """Also of clips that are larger than the memory that is shared for them."""
    decoder = ClipDecoder(root, FRAMES, VIEWS)
    with pool(2, slot_bytes=slot_bytes) as made:
        found = decode(made, decoder, clips)
        assert [open_files(pid, "torch") for pid in pids_of(made)] == [[], []]
    for clip, one in zip(clips, found, strict=True):
        expected = decoder(clip).found
        if isinstance(expected, ClipError):
            assert one == str(expected)
        else:
            assert len(one) == len(VIEWS)
            for view, wanted in zip(one, expected, strict=True):
                np.testing.assert_array_equal(view, wanted, strict=True)
    assert sum(isinstance(one, str) for one in found) == 3


def open_files(pid: int, name: str) -> list[str]:
    return [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if name in line]


def test_a_process_that_is_killed_takes_nothing_with_it(root: Path, clips: list[Clip]) -> None:
    decoder = ClipDecoder(root, FRAMES, VIEWS)
    with pool(2) as made:
        before, found = pids_of(made), 0
        with made.decoding(decoder, clips * 4) as decoded:
            for number, one in enumerate(decoded):
                if number in (3, 20):
                    os.kill(made.processes[0].process.pid, signal.SIGKILL)
                expected = decoder((clips * 4)[number]).found
                assert isinstance(one.found, list) == isinstance(expected, list)
                found += isinstance(one.found, list)
        assert found == 13 * 4
        assert len(pids_of(made) & before) == 1


def test_a_clip_that_kills_its_process_is_tried_again_and_then_given_up(peculiar: ClipDecoder) -> None:
    wanted = [clip("a", "plain"), clip("b", "kills"), clip("cc", "kills once"), clip("ddd", "plain")]
    with pool(1) as made:
        first, killed, once, last = decode(made, peculiar, wanted)
    assert killed == "worker_crash: kills: the decoding process died each time it read this clip"
    assert [views[0].max() for views in (first, once, last)] == [1, 2, 3]


def test_a_process_that_dies_with_nothing_to_do_is_no_fault_of_a_clip(peculiar: ClipDecoder) -> None:
    with pool(1) as made:
        assert decode(made, peculiar, [clip("a", "plain")])
        for process in made.processes:
            process.process.kill()
            process.process.wait(30)
        ((found,),) = decode(made, peculiar, [clip("m", "kills once")])  # its second process
        assert found.max() == 1


def test_a_block_that_is_given_up_leaves_the_memory_to_the_next(
    root: Path, clips: list[Clip], peculiar: ClipDecoder
) -> None:
    with pool(2) as made:
        for _ in range(3):  # more than there is room for
            with pytest.raises(InputError, match="expected a, found b"):
                decode(made, peculiar, [*(clip(str(n), "plain") for n in range(9)), clip("no", "refuses"), *clips])
            with made.decoding(ClipDecoder(root, FRAMES, VIEWS), clips) as decoded:
                next(decoded)
        assert len(decode(made, ClipDecoder(root, FRAMES, VIEWS), clips)) == len(clips)


def test_a_block_is_decoded_while_the_one_before_is_looked_at(peculiar: ClipDecoder) -> None:
    second: list[object] = []
    with pool(1) as made:
        with made.decoding(peculiar, [clip("a", "plain")]) as decoded:
            other = threading.Thread(target=lambda: second.extend(decode(made, peculiar, [clip("m", "kills once")])))
            other.start()
            wait_until((peculiar.source.folder / "m").exists)  # begun, in the pool's only process
            assert not second
            assert next(decoded).found[0].max() == 1
            time.sleep(0.1)
            assert not second
        other.join(30)
    assert second[0][0].max() == 1


def test_the_pool_lives_from_block_to_block_and_ends_when_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_pool, "IDLE", 0.3)
    with shared_pool(1) as first:
        pids = pids_of(first)
        with shared_pool(2) as second:
            assert second is first
    with shared_pool(1) as third:
        assert third is first
        time.sleep(0.5)
        assert all(map(alive, pids))
    wait_until(lambda: not any(map(alive, pids)))
    with shared_pool(1) as fourth:
        assert fourth is not first
        pids = pids_of(fourth)
    wait_until(lambda: not any(map(alive, pids)))


def test_a_worker_that_is_killed_takes_its_processes_with_it(peculiar: ClipDecoder) -> None:
    """In the middle of a clip that would take minutes."""
    folder = peculiar.source.folder
    script = f"""
        from pathlib import Path
        from peculiar import Peculiar
        from extract.dataset.clip_index import Clip
        from extract.decoding.clip_decoder import ClipDecoder
        from extract.decoding.decode_pool import DecodePool
        from extract.settings import FrameSettings, View

        decoder = ClipDecoder(Peculiar(Path({str(folder)!r})), FrameSettings(), (View(),))
        clips = [Clip(id, "train", "sleeps", 0, 25.0, "", "de_DE") for id in ("one", "two")]
        with DecodePool(3).decoding(decoder, clips) as decoded:
            next(decoded)
    """
    path = os.pathsep.join([str(folder), str(REPOSITORY)])
    worker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], env={**os.environ, "PYTHONPATH": path})
    try:
        wait_until(lambda: all((folder / id).is_file() and (folder / id).read_text() for id in ("one", "two")))
        pids = children(worker.pid)
        assert {int((folder / id).read_text()) for id in ("one", "two")} < pids
        assert len(pids) == 3
    finally:
        worker.kill()
        worker.wait(30)
    wait_until(lambda: not any(map(alive, pids)))


def children(pid: int) -> set[int]:
    return {
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    }


@pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs a namespace of its own",
)
def test_a_small_dev_shm_does_not_matter(root: Path) -> None:
    """As containers have it: 1 MB here, and frames of 13 MB."""
    script = f"""
        from pathlib import Path
        from extract.dataset.clip_index import Clip
        from extract.decoding.clip_decoder import ClipDecoder
        from extract.decoding.decode_pool import DecodePool
        from extract.settings import FrameSettings, View

        decoder = ClipDecoder(Path({str(root)!r}), FrameSettings(keep_every=1, resize=640, crop=600), (View(),))
        with DecodePool(1).decoding(decoder, [Clip("a", "train", "png11", 0, 25.0, "", "de_DE")] * 4) as decoded:
            print([one.found[0].nbytes for one in decoded])
    """
    small = 'mount -t tmpfs -o size=1m none /dev/shm && ! head -c 2m /dev/zero 2>/dev/null >/dev/shm/full && exec "$@"'
    words = ["unshare", "-rm", "sh", "-c", small, "sh", sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(
        words, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str([12 * 3 * 600 * 600] * 4)
