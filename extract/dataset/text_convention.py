"""Text conventions of a dataset: what happens to a sentence on its way into the index, once and for all stages."""

from __future__ import annotations

import unicodedata
from typing import Literal

from extract.settings import Settings

FULL_STOPS = ".。"

Case = Literal["keep", "lower"]
FinalDot = Literal["keep", "strip", "add"]


class TextConvention(Settings):
    """Declared by the manifest, recorded in the index; a change makes everything that reads the text stale."""

    case: Case = "keep"
    """Keep upper and lower case, or make all of it lower case."""
    final_dot: FinalDot = "keep"
    """Keep or strip the full stops that a sentence ends with, Western and Chinese ones; ``add``: one ``.`` in their
    place, a token of its own, as in the label files that most published systems on PHOENIX14T were trained with."""


def conventional(text: str, case: Case = "keep", final_dot: FinalDot = "keep") -> str:
    """The text in a convention, with white space collapsed to single spaces.

    >>> conventional("Morgen  regnet es .", "lower", "strip")
    'morgen regnet es'
    >>> conventional("morgen regnet es", final_dot="add")
    'morgen regnet es .'
    """
    text = " ".join(text.split())
    if case == "lower":
        text = text.lower()
    if final_dot != "keep":
        text = text.rstrip(" " + FULL_STOPS)
    if final_dot == "add" and text:  # who says nothing gets no match for it
        text += " ."
    return text


def encoded_twice(text: str) -> bool:
    """Whether a text looks like UTF-8 that was read as a Western encoding and written again.

    >>> encoded_twice("schÃ¶n"), encoded_twice("schön")
    (True, False)
    """
    try:
        return text.encode("cp1252").decode() != text
    except UnicodeError:
        return False


def has_word(text: str) -> bool:
    """Whether a text holds a letter or a number, without which no tokenizer has a piece for it.

    >>> has_word("18 Grad"), has_word("♪♪")
    (True, False)
    """
    return any(unicodedata.category(letter)[0] in "LN" for letter in text)
