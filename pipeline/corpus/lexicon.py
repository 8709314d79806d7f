"""The signs of the drawn corpora and their form: what the hands and the mouth do."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable

import numpy as np

PHENOMENA = (
    "REGEN", "SCHNEE", "SONNE", "WOLKE", "NEBEL", "GEWITTER", "WIND", "STURM", "FROST",
    "SCHAUER", "HAGEL", "TROCKEN", "WARM", "KALT", "GLATT", "KLAR", "TAUEN",
)  # fmt: skip
INTENSITIES = ("STARK", "SCHWACH", "ORT", "BALD")
TIMES = (
    "HEUTE", "MORGEN", "UEBERMORGEN", "NACHT", "ABEND", "WOCHENENDE",
    "MONTAG", "DIENSTAG", "MITTWOCH", "DONNERSTAG", "FREITAG", "SAMSTAG", "SONNTAG",
)  # fmt: skip
REGIONS = ("NORD", "SUED", "WEST", "OST", "MITTE", "KUESTE", "BERG", "RHEIN", "ALPEN")
ONES = ("EINS", "ZWEI", "DREI", "VIER", "FUENF", "SECHS", "SIEBEN", "ACHT", "NEUN")
TENS = ("ZEHN", "ZWANZIG", "DREISSIG")
SIGN = PHENOMENA + INTENSITIES + TIMES + REGIONS + ONES + TENS + ("MINUS", "GRAD")

# Dominant hand's place of articulation, in body units: x to the signer's dominant side, y down, shoulders at 0.
LOCATIONS = {
    "forehead": (0.10, -0.72),
    "ear": (0.42, -0.50),
    "chin": (0.08, -0.26),
    "chest": (0.12, 0.18),
    "belly": (0.12, 0.52),
    "far_shoulder": (-0.36, 0.02),
    "side_high": (0.68, -0.50),
    "side": (0.68, 0.06),
    "side_low": (0.66, 0.50),
}
MOVEMENTS = ("hold", "up", "down", "out", "across", "circle", "zigzag", "tap")
# Extended fingers: (angle in degrees from the hand's axis, length in palm radii).
HANDSHAPES: dict[str, tuple[tuple[float, float], ...]] = {
    "fist": (),
    "index": ((0, 2.3),),
    "v": ((-18, 2.3), (18, 2.3)),
    "flat": ((-14, 2.1), (-5, 2.3), (5, 2.3), (14, 2.1)),
    "spread": ((-62, 1.7), (-32, 2.1), (-10, 2.3), (12, 2.3), (36, 2.1)),
    "thumb": ((-85, 1.9),),
    "y": ((-80, 1.9), (42, 2.0)),
}
HANDS = ("one", "mirrored", "base")
MOUTHS = ("closed", "open", "wide", "round")
ORIENTATIONS = (-90.0, -45.0, 0.0, 45.0)


_WEIGHTS = {"location": 2, "movement": 2, "hands": 2, "target": 2, "handshape": 1, "orientation": 1}


@dataclasses.dataclass(frozen=True, slots=True)
class SignForm:
    """The five parameters of a sign, and the other hand."""

    handshape: str
    location: str
    movement: str
    orientation: float
    """Degrees of the fingers from upright, towards the dominant side."""
    hands: str
    """``one``; ``mirrored``: the other hand does the same; ``base``: the other hand is a flat, still base."""
    mouth: str
    target: str | None = None
    """Another location, which the hand goes to while it does the movement; None: it stays at the one."""

    def difference(self, other: SignForm) -> int:
        """How far apart two signs look: large parts of the picture count double."""
        return sum(weight for name, weight in _WEIGHTS.items() if getattr(self, name) != getattr(other, name))


@functools.cache
def lexicon(seed: int) -> dict[str, SignForm]:
    """A form for every sign, drawn from the seed; every two signs differ in location, movement or hands and
    in something else besides (a difference of at least 3)."""
    rng = np.random.default_rng([seed, 0x51676E])
    forms: dict[str, SignForm] = {}
    places = list(itertools.product(LOCATIONS, MOVEMENTS, HANDS))
    rng.shuffle(places)
    candidates = iter(places)
    for name in SIGN:
        while name not in forms:
            location, movement, hands = next(candidates)
            form = SignForm(
                handshape=str(rng.choice(list(HANDSHAPES))),
                location=location,
                movement=movement,
                orientation=float(rng.choice(ORIENTATIONS)),
                hands=hands,
                mouth=str(rng.choice(MOUTHS)),
            )
            if all(form.difference(other) >= 3 for other in forms.values()):
                forms[name] = form
    return forms


def vocabulary_forms(glosses: Iterable[str], seed: int) -> dict[str, SignForm]:
    """A form for every gloss of any vocabulary, drawn from its name and the seed; every two differ in place, target,
    movement or hands, or in two of handshape, orientation and mouth.

    A gloss keeps its form in other vocabularies, but for the few whose first draw another one has taken.
    """
    forms: dict[str, SignForm] = {}
    taken: dict[tuple[object, ...], list[SignForm]] = {}
    for name in sorted(set(glosses)):
        rng = np.random.default_rng([seed, 0x566F63, *name.encode()])
        while name not in forms:
            location, target = (str(place) for place in rng.choice(list(LOCATIONS), size=2, replace=False))
            form = SignForm(
                handshape=str(rng.choice(list(HANDSHAPES))),
                location=location,
                movement=str(rng.choice(MOVEMENTS)),
                orientation=float(rng.choice(ORIENTATIONS)),
                hands=str(rng.choice(HANDS)),
                mouth=str(rng.choice(MOUTHS)),
                target=target if rng.random() < 0.75 else None,
            )
            alike = taken.setdefault((form.location, form.movement, form.hands, form.target), [])
            if all(form.difference(other) + (form.mouth != other.mouth) >= 2 for other in alike):
                alike.append(form)
                forms[name] = form
    return forms
