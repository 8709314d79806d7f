"""Weather sentences: a meaning, its signs in sign order, and its German sentence in German order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from pipeline.corpus.lexicon import INTENSITIES, ONES, PHENOMENA, REGIONS, TENS, TIMES

TIME_TEXT: dict[str, tuple[str, ...]] = {
    "HEUTE": ("heute",), "MORGEN": ("morgen",), "UEBERMORGEN": ("übermorgen",),
    "NACHT": ("in der nacht", "nachts"), "ABEND": ("am abend", "abends"),
    "WOCHENENDE": ("am wochenende",), "MONTAG": ("am montag",), "DIENSTAG": ("am dienstag",),
    "MITTWOCH": ("am mittwoch",), "DONNERSTAG": ("am donnerstag",), "FREITAG": ("am freitag",),
    "SAMSTAG": ("am samstag",), "SONNTAG": ("am sonntag",),
}  # fmt: skip
REGION_TEXT: dict[str, tuple[str, ...]] = {
    "NORD": ("im norden",), "SUED": ("im süden",), "WEST": ("im westen",), "OST": ("im osten",),
    "MITTE": ("in der mitte",), "KUESTE": ("an der küste", "am meer"), "BERG": ("in den bergen", "im bergland"),
    "RHEIN": ("am rhein",), "ALPEN": ("an den alpen",),
}  # fmt: skip

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Phrase:
    """One way to say a phenomenon: verb, subject, what follows, and its words for the four intensities."""

    verb: str
    subject: str
    rest: str
    degrees: tuple[str, str, str, str]


_ADVERB = ("stark", "leicht", "örtlich", "bald")
_NOUN = ("kräftigen", "leichten", "örtlich", "bald")
_PLURAL = ("kräftige", "leichte", "örtlich", "bald")
_STATE = ("sehr", "etwas", "örtlich", "bald")
PHRASES: dict[str, tuple[Phrase, ...]] = {
    "REGEN": (Phrase("regnet", "es", "", _ADVERB), Phrase("gibt", "es", "regen", _NOUN)),
    "SCHNEE": (Phrase("schneit", "es", "", _ADVERB), Phrase("fällt", "schnee", "", _ADVERB)),
    "SONNE": (Phrase("scheint", "die sonne", "", ("lange", "selten", "örtlich", "bald")),),
    "WOLKE": (Phrase("ist", "es", "bewölkt", ("stark", "leicht", "örtlich", "bald")),
              Phrase("ziehen", "wolken", "auf", ("viele", "wenige", "örtlich", "bald"))),
    "NEBEL": (Phrase("bildet", "sich nebel", "", ("dicht", "schwach", "örtlich", "bald")),
              Phrase("wird", "es", "neblig", _STATE)),
    "GEWITTER": (Phrase("gibt", "es", "gewitter", _PLURAL), Phrase("entladen", "sich gewitter", "", _ADVERB)),
    "WIND": (Phrase("weht", "der wind", "", ("kräftig", "schwach", "örtlich", "bald")),),
    "STURM": (Phrase("drohen", "stürme", "", ("schwer", "kaum", "örtlich", "bald")),),
    "FROST": (Phrase("friert", "es", "", ("streng", "leicht", "örtlich", "bald")),
              Phrase("gibt", "es", "frost", ("strengen", "leichten", "örtlich", "bald"))),
    "SCHAUER": (Phrase("fallen", "schauer", "", ("häufig", "vereinzelt", "örtlich", "bald")),),
    "HAGEL": (Phrase("hagelt", "es", "", _ADVERB),),
    "TROCKEN": (Phrase("bleibt", "es", "trocken", ("überall", "meist", "örtlich", "bald")),),
    "WARM": (Phrase("wird", "es", "warm", _STATE),),
    "KALT": (Phrase("wird", "es", "kalt", _STATE), Phrase("ist", "es", "frisch", _STATE)),
    "GLATT": (Phrase("werden", "die straßen", "glatt", _STATE),),
    "KLAR": (Phrase("ist", "der himmel", "klar", ("ganz", "teils", "örtlich", "bald")),),
    "TAUEN": (Phrase("taut", "es", "", ("kräftig", "langsam", "örtlich", "bald")),),
}  # fmt: skip
_DIGITS = ("ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun")
_TEENS = ("zehn", "elf", "zwölf", "dreizehn", "vierzehn", "fünfzehn", "sechzehn", "siebzehn", "achtzehn", "neunzehn")
_TENS = {2: "zwanzig", 3: "dreißig"}
SYNONYM_RATE = 0.15
"""How often another wording than the usual one is chosen."""


@dataclasses.dataclass(frozen=True, slots=True)
class Meaning:
    """What is said: a phenomenon with its intensity, or a temperature; when and where."""

    time: str | None
    region: str | None
    phenomenon: str | None = None
    intensity: str | None = None
    degrees: int | None = None

    def signs(self) -> tuple[str, ...]:
        """Sign order: time, place, topic, comment. Numbers are tens before ones, the sign for minus last."""
        said = [self.time, self.region, self.phenomenon, self.intensity]
        if self.degrees is not None:
            tens, ones = divmod(abs(self.degrees), 10)
            said += [TENS[tens - 1] if tens else None, ONES[ones - 1] if ones else None]
            # A clip has at most four signs: the sign for degrees goes unsaid in the longer ones.
            said += ["MINUS" if self.degrees < 0 else ("GRAD" if sum(map(bool, said)) < 4 else None)]
        return tuple(sign for sign in said if sign)


def meanings() -> Iterator[Meaning]:
    """Every meaning of one to four signs."""
    for time in (None, *TIMES):
        for region in (None, *REGIONS):
            for phenomenon in PHENOMENA:
                for intensity in (None, *INTENSITIES):
                    yield Meaning(time, region, phenomenon, intensity)
            for degrees in (*range(-19, 0), *range(1, 40)):
                meaning = Meaning(time, region, degrees=degrees)
                if len(meaning.signs()) <= 4:
                    yield meaning


def number(value: int) -> str:
    """German numeral before ``grad`` of -39..39 without zero, e.g. ``minus fünfundzwanzig``, ``ein``."""
    tens, ones = divmod(abs(value), 10)
    if tens == 0:
        word = _DIGITS[ones - 1]
    elif tens == 1:
        word = _TEENS[ones]
    elif ones == 0:
        word = _TENS[tens]
    else:
        word = f"{_DIGITS[ones - 1]}und{_TENS[tens]}"
    return f"minus {word}" if value < 0 else word


def sentence(meaning: Meaning, rng: np.random.Generator) -> str:
    """A German sentence, lower case and without a final dot as in PHOENIX14T. Verb second, time before place.

    ``rng`` chooses among synonyms: the usual wording mostly, another one with ``SYNONYM_RATE``.
    """
    time = _choose(TIME_TEXT[meaning.time], rng) if meaning.time else ""
    region = _choose(REGION_TEXT[meaning.region], rng) if meaning.region else ""
    if meaning.degrees is not None:
        phrase = _choose((Phrase("werden", "es", "grad", _STATE), Phrase("sind", "es", "grad", _STATE)), rng)
        degree = number(meaning.degrees)
    else:
        phrase = _choose(PHRASES[str(meaning.phenomenon)], rng)
        degree = phrase.degrees[INTENSITIES.index(meaning.intensity)] if meaning.intensity else ""
    first, middle = (time, region) if time else (region, "")
    if not first:
        opening = [phrase.subject, phrase.verb]
        if phrase.subject.startswith("sich "):
            opening = ["es", phrase.verb, phrase.subject]
    else:
        opening = [first, phrase.verb, phrase.subject, middle]
    return " ".join(part for part in (*opening, degree, phrase.rest) if part)


def _choose(options: Sequence[T], rng: np.random.Generator) -> T:
    if len(options) > 1 and rng.random() < SYNONYM_RATE:
        return options[int(rng.integers(1, len(options)))]
    return options[0]
