"""JSON of others, read strictly: what Python's reader lets pass and no file of text can hold, is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn


def strict_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: invalid, nested too deeply, NaN or Infinity (which pandas writes where a value is absent), a key
            twice in one object, half a surrogate pair. What it says is for people.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if "\\ud" in text.lower():
        require_unicode(json.dumps(value, ensure_ascii=False))
    return value


def require_unicode(text: str) -> None:
    """
    Raises:
        ValueError: half a surrogate pair, which JSON's escapes can spell and UTF-8 cannot hold.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half a surrogate pair is no character") from None


def twice(names: Sequence[str]) -> str | None:
    """The first name that stands twice."""
    return next((name for place, name in enumerate(names) if name in names[:place]), None)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"the key {twice([name for name, _ in pairs])!r} stands twice in one object")
    return row
