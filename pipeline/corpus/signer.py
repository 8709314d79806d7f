"""A signer: looks, and how a pose is drawn."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.lexicon import HANDSHAPES

Point = tuple[float, float]
Colour = tuple[int, int, int]

_SKIN: tuple[Colour, ...] = ((150, 180, 225), (120, 155, 205), (85, 120, 175), (60, 85, 130), (165, 195, 235))
_HAIR: tuple[Colour, ...] = ((25, 30, 40), (40, 70, 110), (95, 150, 190), (30, 30, 90), (130, 130, 130))
_CLOTHES: tuple[Colour, ...] = ((40, 35, 30), (90, 45, 30), (45, 75, 45), (60, 30, 80), (80, 80, 85), (35, 45, 110))
_SUBPIXEL = 4  # bits of sub-pixel position that OpenCV's drawing takes


@dataclasses.dataclass(frozen=True, slots=True)
class Pose:
    """One frame of a signer, in body units (see ``lexicon.LOCATIONS``)."""

    dominant: Point
    other: Point
    handshape: str
    other_handshape: str
    orientation: float
    other_orientation: float
    mouth: str
    head: Point


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """A signer's body and habits, and the studio."""

    skin: Colour
    hair: Colour
    clothes: Colour
    background: Colour
    build: float
    amplitude: float
    speed: float
    long_hair: bool

    @classmethod
    def draw(cls, seed: int, signer: int) -> Look:
        """The looks of signer number ``signer``."""
        rng = np.random.default_rng([seed, 0x4C6F6F6B, signer])
        shade = int(rng.integers(150, 215))
        tint = rng.integers(-22, 23, size=3)
        return cls(
            skin=_SKIN[signer % len(_SKIN)],
            hair=_HAIR[int(rng.integers(len(_HAIR)))],
            clothes=_CLOTHES[int(rng.integers(len(_CLOTHES)))],
            background=(int(shade + tint[0]), int(shade + tint[1]), int(shade + tint[2])),
            build=float(rng.uniform(0.92, 1.08)),
            amplitude=float(rng.uniform(0.85, 1.15)),
            speed=float(rng.uniform(0.85, 1.2)),
            long_hair=bool(rng.random() < 0.5),
        )


class Canvas:
    """Draws a signer's poses into frames of one size.

    Args:
        look: the signer.
        width, height: of the frame, in pixels.
        offset: camera position in body units.
        light: factor on the brightness.
    """

    def __init__(self, look: Look, width: int, height: int, offset: Point, light: float) -> None:
        self.look, self.offset, self.light = look, offset, light
        self.width, self.height = width, height
        self.unit = 0.44 * width * look.build
        ramp = np.linspace(1.08, 0.88, height, dtype=np.float32)[:, None, None]
        plain = np.empty((height, width, 3), np.float32)
        plain[:] = look.background
        self.background = np.clip(plain * ramp * light, 0, 255).astype(np.uint8)

    def draw(self, pose: Pose, shake: Point = (0.0, 0.0)) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 BGR."""
        self.shake = shake
        look, image = self.look, self.background.copy()
        clothes, skin = self._lit(look.clothes), self._lit(look.skin)
        dark = self._lit(tuple(int(0.55 * channel) for channel in look.skin))
        head = (pose.head[0], pose.head[1] - 0.52)
        if look.long_hair:
            self._ellipse(image, (head[0], head[1] + 0.14), (0.27, 0.36), self._lit(look.hair))
        self._line(image, (0, -0.20), (0, -0.02), 0.16, skin)
        torso = [(-0.42, 0.0), (-0.14, -0.08), (0.14, -0.08), (0.42, 0.0), (0.40, 2.0), (-0.40, 2.0)]
        cv2.fillPoly(image, [self._pixels(torso)], clothes, cv2.LINE_AA, _SUBPIXEL)
        self._ellipse(image, (head[0], head[1] - 0.05), (0.24, 0.29), self._lit(look.hair))
        self._ellipse(image, head, (0.20, 0.26), skin)
        self._face(image, head, pose.mouth)
        sleeve = self._lit(tuple(int(0.8 * channel + 16) for channel in look.clothes))
        for side, hand in ((-1.0, pose.other), (1.0, pose.dominant)):
            shoulder = (side * 0.36, 0.06)
            elbow = _elbow(shoulder, hand, side)
            self._line(image, shoulder, elbow, 0.17, sleeve)
            self._line(image, elbow, hand, 0.13, sleeve)
        self._hand(image, pose.other, pose.other_handshape, -pose.other_orientation, -1.0, skin, dark)
        self._hand(image, pose.dominant, pose.handshape, pose.orientation, 1.0, skin, dark)
        return np.asarray(image, np.uint8)

    def _face(self, image: NDArray[np.uint8], head: Point, mouth: str) -> None:
        ink = (30, 30, 40)
        for side in (-0.08, 0.08):
            self._ellipse(image, (head[0] + side, head[1] - 0.04), (0.025, 0.03), ink)
        shape = {"closed": (0.07, 0.012), "open": (0.06, 0.07), "wide": (0.11, 0.03), "round": (0.035, 0.045)}[mouth]
        self._ellipse(image, (head[0], head[1] + 0.14), shape, (50, 40, 130))

    def _hand(
        self, image: NDArray[np.uint8], at: Point, shape: str, angle: float, side: float, skin: Colour, dark: Colour
    ) -> None:
        radius = 0.105
        for colour, grow in ((dark, 0.028), (skin, 0.0)):  # a dark rim keeps the hand visible over the face
            self._ellipse(image, at, (radius + grow, radius + grow), colour)
            for finger, length in HANDSHAPES[shape]:
                turn = math.radians(angle + side * finger)
                tip = (at[0] + length * radius * math.sin(turn), at[1] - length * radius * math.cos(turn))
                self._line(image, at, tip, 0.062 + 2 * grow, colour)

    def _lit(self, colour: Colour | tuple[int, ...]) -> Colour:
        blue, green, red = (min(255, int(channel * self.light)) for channel in colour)
        return blue, green, red

    def _pixels(self, points: list[Point]) -> NDArray[np.int32]:
        x0 = self.width / 2 + self.shake[0] + self.offset[0] * self.unit
        y0 = self.height * 0.44 + self.shake[1] + self.offset[1] * self.unit
        # The dominant hand is the signer's right one, on the left of the picture.
        pixels = [(x0 - x * self.unit, y0 + y * self.unit) for x, y in points]
        return np.round(np.array(pixels) * (1 << _SUBPIXEL)).astype(np.int32)

    def _line(self, image: NDArray[np.uint8], a: Point, b: Point, thickness: float, colour: Colour) -> None:
        start, end = self._pixels([a, b])
        width = max(1, round(thickness * self.unit))
        cv2.line(image, start.tolist(), end.tolist(), colour, width, cv2.LINE_AA, _SUBPIXEL)

    def _ellipse(self, image: NDArray[np.uint8], at: Point, axes: Point, colour: Colour) -> None:
        (centre,) = self._pixels([at])
        size = [round(axis * self.unit * (1 << _SUBPIXEL)) for axis in axes]
        cv2.ellipse(image, centre.tolist(), size, 0, 0, 360, colour, -1, cv2.LINE_AA, _SUBPIXEL)


def _elbow(shoulder: Point, hand: Point, side: float) -> Point:
    """Two links of fixed length; the elbow points outwards and down."""
    upper = lower = 0.52
    dx, dy = hand[0] - shoulder[0], hand[1] - shoulder[1]
    reach = min(math.hypot(dx, dy), upper + lower - 1e-3)
    base = math.atan2(dy, dx)
    bend = math.acos(max(-1.0, min(1.0, (upper**2 + reach**2 - lower**2) / (2 * upper * max(reach, 1e-6)))))
    options = [
        (shoulder[0] + upper * math.cos(base + s * bend), shoulder[1] + upper * math.sin(base + s * bend))
        for s in (-1.0, 1.0)
    ]
    return max(options, key=lambda point: side * point[0] + 0.6 * point[1])
