"""Text files from elsewhere, line by line: what no translation or reference can hold is refused with its line."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from extract.errors import InputError

LONGEST = 100_000
"""Bytes of a line. A line of a megabyte is a file without line ends, or no text."""
MARKS = {b"\xef\xbb\xbf": "UTF-8", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
SAVE = "Save the file as UTF-8 without a byte order mark."


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file; Windows line ends do not matter, the one at the end of the file may be absent.

    Raises:
        InputError: naming file and line: missing or empty file, byte order mark, not UTF-8, NUL bytes, a carriage
            return within a line, a line longer than ``LONGEST``.
    """
    # Split at line feeds only: str.splitlines would also cut at U+2028 and others, and shift what follows.
    parts = read_bytes(path).removesuffix(b"\n").split(b"\n")
    return [decode_line(part.removesuffix(b"\r"), f"{path}, line {n}") for n, part in enumerate(parts, start=1)]


def read_bytes(path: Path, remedy: str = "Check the path.") -> bytes:
    """The whole file.

    Raises:
        InputError: not there, empty, or with a byte order mark.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        refuse(path, "a readable file", error.strerror or str(error), remedy)
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            # Refused, not skipped: an editor has gone over the file, and its other readers would stumble.
            refuse(f"{path}, line 1", "UTF-8 without a byte order mark", f"a byte order mark of {encoding}", SAVE)
    if not data.strip():
        refuse(path, "text", "an empty file", remedy)
    return data


def decode_line(line: bytes, where: str) -> str:
    """One line without its end. Errors as ``read_lines``."""
    if len(line) > LONGEST:
        refuse(where, f"a line of at most {LONGEST:,} bytes", f"{len(line):,}", "Is it the right file?")
    if b"\0" in line:
        # A file system fills unwritten space with zeros after a crash; UTF-16 has one beside every Latin letter.
        remedy = "The file was cut off while it was written, or is UTF-16: write it again as UTF-8."
        refuse(where, "text", f"a NUL byte at column {line.index(0) + 1}", remedy)
    if b"\r" in line:
        remedy = "Rewrite its line ends: a carriage return alone ends no line here, and would shift what follows."
        refuse(where, "one line", f"a carriage return at column {line.index(13) + 1}", remedy)
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        refuse(where, "UTF-8", f"byte 0x{line[error.start]:02x} at column {error.start + 1}", SAVE)


def refuse(where: object, expected: str, found: str, remedy: str) -> NoReturn:
    raise InputError(where, expected=expected, found=found, remedy=remedy)
