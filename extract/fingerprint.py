"""The fingerprint of features: SHA-256 over everything that decides their values, and nothing else.

Features of one fingerprint can be mixed; of two fingerprints they never are. Batch size, block size, workers
and device are not in it: they move features by rounding at most. Versions stand in the commit records.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

SCHEMA = "fla-slt features 1"
"""Version of the store's layout and of the meaning of its features."""


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, ASCII.

    Integer keys become strings first, as in every file, so that a configuration and its saved copy agree.

    >>> canonical_json({"b": 1, "a": [1.5, None]})
    b'{"a":[1.5,null],"b":1}'

    Raises:
        ValueError: a number is NaN or infinite, which JSON does not have.
        TypeError: a value that JSON does not have.
    """
    plain = json.loads(json.dumps(value, allow_nan=False))
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value``: 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_sha256(path: Path) -> str:
    """Of a file's bytes: 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(provenance: Mapping[str, Any]) -> str:
    """The name of a provenance: its digest."""
    return digest(provenance)


def differences(a: Any, b: Any) -> list[str]:
    """The dotted fields in which two provenances differ, absent ones included.

    >>> differences({"frames": {"crop": 224}, "dtype": "float16"}, {"frames": {"crop": 192}})
    ['dtype', 'frames.crop']
    """
    here, there = dict(_leaves(a)), dict(_leaves(b))
    missing = object()
    return sorted(name for name in here | there if here.get(name, missing) != there.get(name, missing))


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of nested mappings and lists with its dotted name; an empty one counts as a leaf."""
    if isinstance(value, Mapping) and value:
        children = [(str(key), child) for key, child in value.items()]
    elif isinstance(value, (list, tuple)) and value:
        children = [(str(position), child) for position, child in enumerate(value)]
    else:
        yield prefix, value
        return
    for name, child in children:
        yield from _leaves(child, f"{prefix}.{name}" if prefix else name)


def describe(provenance: Any, names: Iterable[str]) -> str:
    """The named fields with their values, for a message; a digest is cut to its first digits.

    >>> describe({"weights": "0123456789abcdef" * 4, "decoder": "opencv 4.13.0.92"}, ["weights", "decoder", "dtype"])
    'weights 0123456789ab, decoder opencv 4.13.0.92, dtype absent'
    """
    values = {name: str(value) for name, value in _leaves(provenance)}
    return ", ".join(f"{name} {_shortened(values.get(name, 'absent'))}" for name in names)


def _shortened(value: str) -> str:
    return value[:12] if re.fullmatch("[0-9a-f]{16,}", value) else value
