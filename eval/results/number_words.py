"""Numbers in a sentence, as digits or in words. A wrong one costs a metric one word and a reader the meaning."""

from __future__ import annotations

import re

_DE = (
    "null eins ein zwei drei vier fünf sechs sech sieben sieb acht neun zehn elf zwölf zwanzig dreißig dreissig "
    "vierzig fünfzig sechzig siebzig achtzig neunzig hundert tausend und"
)
_EN_UNITS = "one|two|three|four|five|six|seven|eight|nine"
_EN_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"

PATTERNS = {
    "de": re.compile(rf"\b(?:{_DE.replace(' ', '|')})+\b|\d+(?:[.,]\d+)*", re.IGNORECASE),
    "en": re.compile(
        rf"\b(?:zero|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|hundred|thousand|million"
        rf"|(?:{_EN_TENS})(?:[- ](?:{_EN_UNITS}))?|{_EN_UNITS})\b|\d+(?:[.,]\d+)*",
        re.IGNORECASE,
    ),
    "zh": re.compile(r"[0-9０-９]+|(?:[零〇二两三四五六七八九十百千万亿]|一(?![起样下直些定般切]))+"),
}
ARTICLES = frozenset(["ein", "und", "one", "一"])
"""Parts of numbers that alone are something else as often."""
DIGITS = re.compile(r"\d+(?:[.,]\d+)*")


def numbers_in(text: str, language: str) -> list[str]:
    """The numbers of a sentence in its order, in small letters; in languages without number words here, digits.

    >>> numbers_in("Am Tag einundzwanzig bis 25 Grad , ein Lüftchen", "de_DE")
    ['einundzwanzig', '25']
    """
    pattern = PATTERNS.get(language[:2], DIGITS)
    if language[:2] == "zh":
        text = "".join(text.split())
    found = (match[0].lower() for match in pattern.finditer(text))
    return [number for number in found if number not in ARTICLES]
