"""Text conventions: what happens to hypothesis and reference alike before any metric sees them.

Unicode is not normalised unless the settings say so: no published system does it, and a ``ü`` written with a
combining mark does not match the composed letter there either.
"""

from __future__ import annotations

import unicodedata

from eval.settings import ScoreSettings
from extract.dataset.text_convention import conventional
from extract.errors import InputError


def apply_convention(text: str, settings: ScoreSettings) -> str:
    """The text in the named Unicode form, with white space collapsed to single spaces, then the named case and
    final full stop.

    White space is collapsed because a stray space or newline in generated text is no word: neccam/slt's ROUGE
    splits on single spaces and would count an empty token for each.
    """
    if settings.unicode != "keep":
        text = unicodedata.normalize(settings.unicode, text)
    return conventional(text, "lower" if settings.lowercase else "keep", settings.final_dot)


MOST_TOKENS = 2000
"""Of a sentence. WER and what the report marks take time by the square of it."""


def tokens(text: str, settings: ScoreSettings) -> list[str]:
    """The tokens that ``settings.level`` counts, of the text in the named convention.

    Raises:
        InputError: more than ``MOST_TOKENS``.
    """
    found = _tokens(text, settings)
    if len(found) > MOST_TOKENS:
        unit = "words" if settings.level == "word" else "characters"
        raise InputError(f"the sentence {text[:40]!r}...", expected=f"at most {MOST_TOKENS} {unit}",
                         found=f"{len(found)}", remedy="Is it the right file? Cut it into sentences.")  # fmt: skip
    return found


def _tokens(text: str, settings: ScoreSettings) -> list[str]:
    if settings.level == "word" and settings.final_dot == "keep" and settings.unicode == "keep":
        # What is below, without joining words that are split again.
        return (text.lower() if settings.lowercase else text).split()
    text = apply_convention(text, settings)
    if settings.level == "char":
        return [character for character in text if not character.isspace()]
    return text.split()


def convention_signature(settings: ScoreSettings) -> str:
    """The part of a score's signature that sacreBLEU cannot know, in its ``key:value|key:value`` form."""
    return f"level:{settings.level}|dot:{settings.final_dot}|unicode:{settings.unicode}"
