"""What a decoding process does: a clip from its standard input, the frames into memory that is shared with the worker.

It imports no torch. Started by ``extract.decoding.decode_pool``, and ends when its standard input does: a worker that
is killed takes it along, in the middle of a clip too.
"""

from __future__ import annotations

import dataclasses
import mmap
import os
import pickle
import queue
import sys
import threading
from typing import Any

import numpy as np

from extract.decoding.clip_decoder import Decoded


def main(memory: int, slot_bytes: int) -> None:
    """Decode until there is nothing more to come.

    Args:
        memory: a file descriptor of slots that lie one after the other.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests,), daemon=True).start()
    shared = np.frombuffer(mmap.mmap(memory, 0), np.uint8)
    while True:
        decoder, clip, slot = requests.get()
        answer: object
        try:
            decoded: Decoded = decoder(clip)
            answer = _put(decoded, shared[slot * slot_bytes : (slot + 1) * slot_bytes])
        except Exception as error:
            answer = error
        pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


def _put(decoded: Decoded, slot: np.ndarray) -> tuple[Decoded, list[tuple[int, ...]]]:
    """With the frames in the slot, the shapes that lie there; a clip that is too large for it goes along as it is."""
    views = decoded.found
    if not isinstance(views, list) or sum(view.nbytes for view in views) > len(slot):
        return decoded, []
    start = 0
    for view in views:
        np.copyto(slot[start : start + view.nbytes].reshape(view.shape), view)
        start += view.nbytes
    return dataclasses.replace(decoded, found=[]), [view.shape for view in views]


def _receive(requests: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            requests.put(pickle.load(sys.stdin.buffer))  # noqa: S301  (of the worker)
    finally:
        os._exit(0)  # not when the clip at hand is done, which may take minutes


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
