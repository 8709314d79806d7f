"""What all annotation files have in common: how they are read, and what a name, a path or a time in them may be."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated

from pydantic import AfterValidator

from extract.errors import InputError
from extract.strict_json import twice


def read_text(path: Path, remedy: str) -> str:
    """The text of an annotation file; a byte order mark and the kind of line ends do not matter.

    Args:
        remedy: what to do when the file is not there.

    Raises:
        InputError: no such file, no permission, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(path, expected="an annotation file", found="no such file", remedy=remedy) from None
    except OSError as error:
        raise InputError(path, expected="an annotation file", found=error.strerror or str(error),
                         remedy=remedy) from error  # fmt: skip
    except UnicodeDecodeError as error:
        raise InputError(path, expected="UTF-8", found=f"byte {error.start} is not",
                         remedy="Unpack the release again, or save the file as UTF-8.") from error  # fmt: skip


def read_table(path: Path, separator: str, columns: list[str], remedy: str) -> list[tuple[str, dict[str, str]]]:
    """The rows of a file without quoting, below a header: fields may hold quotation marks, never the separator.

    Args:
        columns: those that the header must have; others may be there, in any order.

    Returns:
        Where each row stands, for messages, and its fields by name, stripped of white space around them.

    Raises:
        InputError: as ``read_text``; a column is absent or a row has another number of fields.
    """
    # No csv module: a quotation mark that opens a field would swallow the rows that follow.
    lines = read_text(path, remedy).rstrip("\n").split("\n")
    header = lines[0].split(separator)
    if absent := [column for column in columns if column not in header]:
        remedy = f"Column {absent[0]} is absent: replace {path} by the file of the release."
        raise InputError(f"{path.name}, row 1", expected=separator.join(columns), found=repr(lines[0][:80]),
                         remedy=remedy)  # fmt: skip
    require_once(f"{path.name}, row 1", header, path)
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        fields = line.split(separator)
        where = f"{path.name}, row {number}"
        if len(fields) != len(header):
            raise InputError(where, expected=f"{len(header)} fields", found=f"{len(fields)}",
                             remedy=f"Mend the row in {path}.")  # fmt: skip
        rows.append((where, dict(zip(header, map(str.strip, fields), strict=True))))
    return rows


def require_once(where: str, columns: list[str], path: Path) -> None:
    """
    Raises:
        InputError: a column's name stands twice in a header.
    """
    if (name := twice(columns)) is not None:
        raise InputError(where, expected="every column once", found=f"{name!r} twice",
                         remedy=f"Rename or remove one of them in {path}.")  # fmt: skip


def file_name(where: str, value: object, path: Path) -> str:
    """A clip's name that is one part of a path.

    Raises:
        InputError: empty, with a slash, or dots only.
    """
    if not isinstance(value, str) or value in ("", ".", "..") or any(part in value for part in "/\\\0\n"):
        raise InputError(where, expected="a clip name", found=repr(value)[:80], remedy=f"Mend the row in {path}.")
    return value


def inside(value: str) -> str:
    """A path below the dataset's root, in its simplest form with forward slashes.

    Raises:
        ValueError: absolute, with a drive, or on the way up.
    """
    path = PurePosixPath(value.replace("\\", "/"))
    if not value or "\0" in value or path.is_absolute() or PureWindowsPath(value).drive or ".." in path.parts:
        raise ValueError("must be a path below the dataset's root")
    return str(path)


InsidePath = Annotated[str, AfterValidator(inside)]


def seconds(where: str, column: str, value: object, path: Path) -> float:
    """A time.

    Raises:
        InputError: not a finite number.
    """
    try:
        time = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        time = math.nan
    if not math.isfinite(time) or isinstance(value, bool):
        raise InputError(where, expected=f"seconds in {column}", found=repr(value)[:80],
                         remedy=f"Mend the row in {path}.")  # fmt: skip
    return time


class Ids:
    """Sees to it that every clip occurs once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: dict[str, str] = {}

    def add(self, id: str, where: str) -> None:
        """
        Raises:
            InputError: the id was there before.
        """
        if id in self._seen:
            raise InputError(where, expected="every clip once", found=f"{id!r} again, first in {self._seen[id]}",
                             remedy=f"Remove one of the two rows from {self.path}.")  # fmt: skip
        self._seen[id] = where.rpartition(", ")[2]
