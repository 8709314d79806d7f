"""Processes that decode clips ahead of the encoder.

Threads would wait for each other: kornia-rs holds Python's lock while it decodes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import mmap
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import psutil

from extract.dataset.clip_index import Clip
from extract.decoding.clip_decoder import ClipDecoder, Decoded
from extract.errors import ClipError

IDLE = 60.0
"""Seconds without a block after which the processes end: a cluster may go on without them."""
_SLOTS = 2
"""Clips that a process has room for: one that it decodes, one that the encoder has not taken yet."""
_SLOT_BYTES = 48 << 20
"""Frames of a slot: 334 of 224 pixels. Memory is only taken where a clip is written."""
_TRIES = 2
"""Processes that a clip may kill before it is given up."""


_Answer = tuple[Decoded, list[tuple[int, ...]]] | Exception
"""Of a decoding process: a clip, and the shapes of what lies in its slot; or what it raised."""


class DecodePool:
    """Processes of its own, which live from block to block.

    They are started as programs, not as children of ``multiprocessing``: a Dask worker under a nanny may have none of
    those. Nothing of theirs has a name in the file system, so nothing is left by a kill; and where the system can
    (Linux), their memory is no part of /dev/shm, which containers make small.

    Args:
        count: of processes.
        slot_bytes: frames of one clip; a larger clip comes through a pipe, more slowly.
    """

    def __init__(self, count: int, slot_bytes: int = _SLOT_BYTES) -> None:
        self.count = count
        self._work: queue.SimpleQueue[tuple[Future[Decoded], ClipDecoder, Clip] | None] = queue.SimpleQueue()
        self._lock, self._left = threading.Lock(), threading.Event()
        self._left.set()
        room = psutil.virtual_memory().available // 4
        slot_bytes = max(1, min(slot_bytes, room // (_SLOTS * count)))
        self.processes = [_Process(slot_bytes) for _ in range(count)]
        for process in self.processes:
            threading.Thread(target=self._serve, args=(process,), name="decode", daemon=True).start()

    @contextlib.contextmanager
    def decoding(self, decoder: ClipDecoder, clips: Sequence[Clip]) -> Iterator[Iterator[Decoded]]:
        """What becomes of the clips of a block, in order. Frames can be looked at until the next clip is asked for.

        One block at a time: entering waits until the one that was handed in before has been left, while the clips of
        this one are decoded already.

        Raises:
            InputError: as ``read_clip``.
        """
        left = threading.Event()
        waiting: deque[Future[Decoded]] = deque(Future() for _ in clips)
        with self._lock:  # blocks are taken in the order in which they are decoded, or slots would wait for each other
            for future, clip in zip(waiting, clips, strict=True):
                self._work.put((future, decoder, clip))
            before, self._left = self._left, left
        try:
            before.wait()
            with contextlib.closing(_in_order(waiting)) as decoded:
                yield decoded
        finally:
            for future in waiting:  # of a block that was given up
                if not future.cancel():
                    future.add_done_callback(_release)
            left.set()

    def close(self) -> None:
        for _ in range(self.count):
            self._work.put(None)

    def _serve(self, process: _Process) -> None:
        # A thread for each process: it waits for a slot of that one only, which holds a clip of before, so that two
        # can never wait for each other.
        while (work := self._work.get()) is not None:
            future, decoder, clip = work
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(process.decode(decoder, clip))
            except BaseException as error:
                future.set_exception(error)
        process.end()
        os.close(process.file)


def _in_order(waiting: deque[Future[Decoded]]) -> Generator[Decoded]:
    while waiting:
        decoded = waiting.popleft().result()
        try:
            yield decoded
        finally:
            decoded.release()


def _release(future: Future[Decoded]) -> None:
    if future.exception() is None:
        future.result().release()


class _Process:
    """A process, the memory that it shares with this one, and those that take its place when it dies."""

    def __init__(self, slot_bytes: int) -> None:
        self.slot_bytes = slot_bytes
        self.file = _memory(_SLOTS * slot_bytes)
        self.memory = np.frombuffer(mmap.mmap(self.file, 0), np.uint8)
        self.free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(_SLOTS):
            self.free.put(slot)
        self.start()

    def start(self) -> None:
        # As this process imports, wherever it was started.
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        words = [sys.executable, "-P", "-m", "extract.decoding.decode_process", str(self.file), str(self.slot_bytes)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[self.file],
            env={**os.environ, "PYTHONPATH": path},
            process_group=0,  # Ctrl-C is for the worker, with which this one ends
        )  # fmt: skip

    def decode(self, decoder: ClipDecoder, clip: Clip) -> Decoded:
        """In its process; where that dies of it twice, the clip has failed."""
        slot = self.free.get()
        release = functools.partial(self.free.put, slot)
        try:
            if self.process.poll() is not None:  # it died with nothing to do, which says nothing of this clip
                self.end()
                self.start()
            for _ in range(_TRIES):
                try:
                    answer = self._ask(decoder, clip, slot)
                    break
                except (EOFError, OSError, pickle.UnpicklingError):
                    self.end()
                    self.start()
            else:
                detail = f"{clip.source}: the decoding process died each time it read this clip"
                answer = Decoded(ClipError("worker_crash", detail)), []
            if isinstance(answer, Exception):
                raise answer
            decoded, shapes = answer
            if not shapes:
                release()
                return decoded
            start, views = slot * self.slot_bytes, []
            for shape in shapes:
                size = int(np.prod(shape))
                views.append(self.memory[start : start + size].reshape(shape))
                start += size
            return dataclasses.replace(decoded, found=views, release=release)
        except BaseException:
            release()
            raise

    def _ask(self, decoder: ClipDecoder, clip: Clip, slot: int) -> _Answer:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        pickle.dump((decoder, clip, slot), self.process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
        self.process.stdin.flush()
        answer: _Answer = pickle.load(self.process.stdout)  # noqa: S301  (of a process of ours)
        return answer

    def end(self) -> None:
        self.process.kill()
        with contextlib.suppress(OSError):  # what could not be sent
            self.process.communicate()


def _memory(size: int) -> int:
    """A file descriptor of that much memory, which is taken when it is written to, and is gone with its processes."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("slt-frames")
    else:
        with tempfile.TemporaryFile() as named:
            file = os.dup(named.fileno())
    os.ftruncate(file, size)
    return file


class _Shared:
    """The pool of this process: blocks of several tasks use it, one after the other and at the same time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pool: DecodePool | None = None
        self.users = 0
        self.timer: threading.Timer | None = None


_SHARED = _Shared()


@contextlib.contextmanager
def shared_pool(count: int) -> Iterator[DecodePool]:
    """The pool of this process, of ``count`` processes unless another one is in use; it ends ``IDLE`` seconds after."""
    with _SHARED.lock:
        if _SHARED.timer is not None:
            _SHARED.timer.cancel()
        if _SHARED.pool is not None and _SHARED.pool.count != count and not _SHARED.users:
            _SHARED.pool.close()
            _SHARED.pool = None
        pool = _SHARED.pool = _SHARED.pool or DecodePool(count)
        _SHARED.users += 1
    try:
        yield pool
    finally:
        with _SHARED.lock:
            _SHARED.users -= 1
            if not _SHARED.users:
                _SHARED.timer = threading.Timer(IDLE, _end_idle)
                _SHARED.timer.daemon = True
                _SHARED.timer.start()


def _end_idle() -> None:
    with _SHARED.lock:
        if not _SHARED.users and _SHARED.pool is not None:
            _SHARED.pool.close()
            _SHARED.pool = None
