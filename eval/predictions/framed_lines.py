"""What all lines of a file share besides sentences, ids or names of keys: taken off or refused, never scored."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from eval.predictions.text_lines import refuse

Frame = Callable[[str, str], dict[str, str]]
"""A line and where it stands to what its keys say."""

PLAIN = "If every line is a sentence and nothing else, say so with --plain."
FEW = 3
"""From so many lines on, a beginning that all of them have is no chance."""
KEY = r"[A-Za-z][\w-]*"


def frame_of(path: Path, lines: Sequence[str], known: Collection[str]) -> Frame | None:
    """What to take off the lines of a file; None: they are sentences.

    | line | whose |
    |---|---|
    | ``id|text`` | neccam/slt |
    | ``id<tab>text`` | |
    | ``sample: id, prediction: text``, in any keys of ``known`` | Uni-Sign |

    Raises:
        InputError: the lines share something else that no sentence has: other keys, columns, numbers, a bracket or a
            quotation mark at the start; or one of them lacks what most have.
    """
    if keyed := _keyed(path, lines, known):
        return keyed
    for mark, name in (("|", "|"), ("\t", "a tab")):
        found = [line.count(mark) for line in lines]
        if found.count(0) * 2 > len(lines):
            continue
        if max(found) > 1:
            refuse(f"{path}, line {found.index(max(found)) + 1}", f"id and text, with one {name} between them",
                   f"{max(found)}", f"If it is a table with a header, name it .csv. {PLAIN}")  # fmt: skip
        if 0 in found:
            refuse(f"{path}, line {found.index(0) + 1}", f"{name} after an id, as in most lines", "none",
                   f"Mend the line. {PLAIN}")  # fmt: skip
        return _separated(mark)
    _refuse_shared(path, lines)
    return None


def refuse_alike(hypotheses: Sequence[str], references: Sequence[str], where: str) -> None:
    """Refuse two files whose lines begin with the same word in most places and with another one in each: ids.

    Raises:
        InputError: so it is.
    """
    first = [[line.split(maxsplit=1)[0] if line.strip() else "" for line in side] for side in (hypotheses, references)]
    shared = [left for left, right in zip(*first, strict=True) if left == right and re.search(r"[\d_/]", left)]
    if len(shared) * 2 > len(references) and len(set(shared)) == len(shared):
        refuse(where, "sentences", f"a beginning that the reference has too, as {len(shared)} of {len(references)} "
               f"lines: {shared[0]!r}", f"Put a tab or | behind ids. {PLAIN}")  # fmt: skip


def _keyed(path: Path, lines: Sequence[str], known: Collection[str]) -> Frame | None:
    """Of lines of known keys, the first at their start and any that follow a comma."""

    def keys(line: str) -> tuple[str, ...]:
        found = tuple(key for key in re.findall(rf"(?:^|, )({KEY}):(?= |$)", line) if key.lower() in known)
        return found if found and line.startswith(f"{found[0]}:") else ()

    fits: dict[tuple[str, ...], int] = {}
    for chosen, _ in Counter(filter(None, map(keys, lines))).most_common(5):  # a text may hold further ones
        fits[chosen] = sum(_form(chosen).fullmatch(line) is not None for line in lines)
    chosen = max(fits, key=lambda one: fits[one], default=())
    if not chosen or fits[chosen] * 2 < len(lines):
        return None
    form = _form(chosen)

    def frame(line: str, where: str) -> dict[str, str]:
        found = form.fullmatch(line)
        if found is None:
            said = ", ".join(f"{key}: …" for key in chosen)
            refuse(where, f"{said!r}, as in most lines", repr(line[:60]), f"Mend the line. {PLAIN}")
        return {key.lower(): text for key, text in zip(chosen, found.groups(), strict=True)}

    return frame


def _form(keys: Sequence[str]) -> re.Pattern[str]:
    return re.compile(", ".join(rf"{re.escape(key)}: ?(.*{'?' if key != keys[-1] else ''})" for key in keys))


def _separated(mark: str) -> Frame:
    def frame(line: str, where: str) -> dict[str, str]:
        id, _, text = line.partition(mark)
        return {"id": id.strip(), "text": text}

    return frame


def _refuse_shared(path: Path, lines: Sequence[str]) -> None:
    if len(lines) < FEW or len(set(lines)) == 1:  # one sentence for all clips is a system, if a poor one
        return
    first, last = min(lines), max(lines)
    shared = "".join(
        one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    )
    numbered = any(all(re.match(rf"\W?{n}\b", line) for n, line in enumerate(lines, start)) for start in (0, 1))
    if numbered or re.match(r"[^\w\s¿¡]|[^\s:=]*[:=]|[^\s_/-]*[_/-]", shared):
        said = "its number" if numbered else repr(shared[:40])
        refuse(f"{path}, line 1", "sentences", f"{said} at the start of every line",
               f"Known forms are in docs/scores.md. {PLAIN}")  # fmt: skip
