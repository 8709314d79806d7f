"""From a sequence of signs to the poses of a clip: speed, transitions, co-articulation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pipeline.corpus.lexicon import LOCATIONS, SignForm
from pipeline.corpus.signer import Look, Point, Pose

REST: Point = (0.34, 0.92)
SIGN_FRAMES = 11
TRANSITION_FRAMES = 5
"""At 25 frames per second and speed 1: a sign lasts 0.44 s, the way to the next one 0.2 s."""


def poses(forms: Sequence[SignForm], look: Look, rng: np.random.Generator, frames: int | None = None) -> list[Pose]:
    """The frames of a clip: from rest through the signs and back to rest.

    Every sign differs from its dictionary form as people's do: place, size and length vary, and the way from one
    sign to the next is a smooth path between wherever they end and begin.

    Args:
        frames: as many as there are to be, at whatever pace that takes; None: at the signer's.
    """
    tempo = look.speed * rng.uniform(0.88, 1.12)
    if frames is not None:
        tempo = (len(forms) * (SIGN_FRAMES + TRANSITION_FRAMES) + TRANSITION_FRAMES) / frames
    path: list[Pose] = []
    current = _resting()
    for form in forms:
        shift = rng.normal(0, 0.035, size=2)
        size = look.amplitude * rng.uniform(0.85, 1.15)
        turn = float(rng.normal(0, 6))
        length = max(6, round(SIGN_FRAMES * rng.uniform(0.85, 1.2) / tempo))
        sign = [_pose(form, step / (length - 1), shift, size, turn) for step in range(length)]
        path += _transition(current, sign[0], max(2, round(TRANSITION_FRAMES * rng.uniform(0.8, 1.3) / tempo)))
        path += sign
        current = sign[-1]
    path += _transition(current, _resting(), max(2, round(TRANSITION_FRAMES / tempo)))
    return path if frames is None else [path[int(at)] for at in np.linspace(0, len(path) - 1, frames).round()]


def _resting() -> Pose:
    return Pose(REST, (-REST[0], REST[1]), "fist", "fist", 0.0, 0.0, "closed", (0.0, 0.0))


def _pose(form: SignForm, time: float, shift: np.ndarray, size: float, turn: float) -> Pose:
    x, y = LOCATIONS[form.location]
    if form.target is not None:
        x, y = _mix((x, y), LOCATIONS[form.target], _eased(time))
    dx, dy = _movement(form.movement, time)
    hand = (x + shift[0] + size * dx, y + shift[1] + size * dy)
    if form.hands == "mirrored":
        other, shape, angle = (-hand[0], hand[1]), form.handshape, form.orientation + turn
        if abs(hand[0]) < 0.2:  # both hands in front of the body keep apart
            other = (-hand[0] - 0.3, hand[1])
    elif form.hands == "base":
        other, shape, angle = (x * 0.3 - 0.30, max(y + 0.22, 0.15)), "flat", -80.0
    else:
        other, shape, angle = (-REST[0], REST[1]), "fist", 0.0
    return Pose(hand, other, form.handshape, shape, form.orientation + turn, angle, form.mouth, (0.0, 0.0))


def _movement(kind: str, time: float) -> Point:
    """Displacement of the hand at ``time`` in 0..1, in body units."""
    eased = _eased(time)
    if kind == "up":
        return 0.0, 0.22 - 0.44 * eased
    if kind == "down":
        return 0.0, -0.20 + 0.44 * eased
    if kind == "out":
        return -0.15 + 0.36 * eased, 0.0
    if kind == "across":
        return 0.25 - 0.62 * eased, 0.0
    if kind == "circle":
        return 0.19 * math.sin(2 * math.pi * time), -0.19 * math.cos(2 * math.pi * time)
    if kind == "zigzag":
        return 0.16 * math.sin(4 * math.pi * time), -0.12 + 0.30 * time
    if kind == "tap":
        return 0.0, 0.13 * abs(math.sin(2 * math.pi * time))
    return 0.0, 0.0


def _eased(time: float) -> float:
    return 0.5 - 0.5 * math.cos(math.pi * time)


def _transition(a: Pose, b: Pose, frames: int) -> list[Pose]:
    between = []
    for step in range(1, frames):
        t = step / frames
        t = t * t * (3 - 2 * t)
        near = a if t < 0.5 else b  # handshape and mouth change half-way
        between.append(
            Pose(
                _mix(a.dominant, b.dominant, t), _mix(a.other, b.other, t), near.handshape, near.other_handshape,
                a.orientation + t * (b.orientation - a.orientation),
                a.other_orientation + t * (b.other_orientation - a.other_orientation),
                near.mouth, (0.0, 0.0),
            )
        )  # fmt: skip
    return between


def _mix(a: Point, b: Point, t: float) -> Point:
    return a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])
