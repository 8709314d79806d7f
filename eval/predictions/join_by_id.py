"""Hypotheses meet references by clip id: nothing is shifted, nothing is dropped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from eval.predictions.framed_lines import refuse_alike
from eval.predictions.prediction_file import Prediction
from eval.predictions.text_files import Text
from eval.predictions.text_lines import refuse
from extract.dataset.clip_index import SPLITS
from extract.errors import suggestion

Missing = Literal["error", "empty"]
"""What a clip of the references without a hypothesis is: an error, or an empty hypothesis."""


def join(
    hypotheses: Sequence[Text],
    references: Sequence[Text],
    missing: Missing = "error",
    elsewhere: Callable[[str], str | None] = lambda id: None,
    plain: bool = False,
) -> list[Prediction]:
    """One row per reference, in the references' order.

    Files of lines without ids on both sides are joined line by line, and then must have as many.

    Args:
        elsewhere: in which other split an id stands, where that is known; for messages.
        plain: lines without ids are sentences, however they begin.

    Raises:
        InputError: naming the first offending line: a hypothesis that no reference has, or has in other letters only;
            ids on one side alone; a reference beside the hypothesis that differs; a missing clip; what ``refuse_alike``
            refuses.
    """
    hypotheses, references = _numbered(
        _without_split(hypotheses, references), _without_split(references, hypotheses), plain
    )
    by_id = {text.id or "": text for text in references}
    given = {text.id or "": text for text in hypotheses}
    folded = {id.casefold(): id for id in by_id}
    strangers = [text for text in hypotheses if text.id not in by_id]
    if strangers:
        _refuse_stranger(strangers, len(hypotheses), by_id, folded, elsewhere)
    for text in hypotheses:
        wanted = by_id[text.id or ""].text
        if text.reference is not None and text.reference.split() != wanted.split():
            refuse(text.where, f"the reference {wanted!r}", repr(text.reference),
                   "The hypotheses were made from other annotations: leave one of the two away.")  # fmt: skip
    absent = [id for id in by_id if id not in given]
    if absent and missing == "error":
        refuse(by_id[absent[0]].where, f"a hypothesis of clip {absent[0]!r}",
               f"none; {len(absent)} of {len(by_id)} clips have none",
               "Translate them, or count them as empty hypotheses with --missing empty.")  # fmt: skip
    rows = []
    for id, reference in by_id.items():
        found = given.get(id)
        frames = reference.n_frames if found is None or found.n_frames is None else found.n_frames
        rows.append(Prediction(id, found.text if found else "", reference.text, frames, found.score if found else None))
    return rows


def own_references(hypotheses: Sequence[Text]) -> list[Prediction]:
    """Rows of a file that holds both sides.

    Raises:
        InputError: naming the first line without a reference or id, or with an id that differs from another by case
            alone: one clip twice, under two names.
    """
    seen: dict[str, Text] = {}
    rows = []
    for number, text in enumerate(hypotheses, start=1):
        if text.reference is None:
            refuse(text.where, "a reference beside the hypothesis", "none", "Name the references with --references.")
        id = text.id or f"line {number}"
        if (other := seen.setdefault(id.casefold(), text)) is not text:
            refuse(text.where, "ids that differ by more than case", f"{id!r} and {other.id!r}",
                   "If they are two clips, name the references with --references.")  # fmt: skip
        rows.append(Prediction(id, text.text, text.reference, text.n_frames, text.score))
    return rows


def _without_split(texts: Sequence[Text], others: Sequence[Text]) -> Sequence[Text]:
    """Ids as the others have them where these alone are all of the form ``test/NAME``, as neccam/slt's files are."""

    def prefixed(side: Sequence[Text]) -> bool:
        return all(text.id is not None and text.id.partition("/")[0] in SPLITS and "/" in text.id for text in side)

    if not prefixed(texts) or prefixed(others):
        return texts
    return [dataclasses.replace(text, id=(text.id or "").partition("/")[2]) for text in texts]


def _numbered(hypotheses: Sequence[Text], references: Sequence[Text], plain: bool) -> tuple[list[Text], list[Text]]:
    """Both with ids: their own, or of lines against lines the number of the line."""
    bare = [text for texts in (hypotheses, references) for text in texts if text.id is None]
    if not bare:
        return list(hypotheses), list(references)
    if len(bare) < len(hypotheses) + len(references):
        refuse(bare[0].where, "an id, as the other file has them", "none", "Name a file of ids with --ids.")
    if len(hypotheses) != len(references):
        short, long = sorted((hypotheses, references), key=len)
        other = short[0].where.rpartition(", ")[0]
        refuse(long[len(short)].where, f"as many lines as {other}: {len(short)}", f"{len(long)}",
               "Lines without ids can be joined only when both files have one for every clip.")  # fmt: skip
    if not plain:
        refuse_alike([text.text for text in hypotheses], [text.text for text in references], hypotheses[0].where)
    left, right = (
        [Text(f"line {n}", text.text, text.where) for n, text in enumerate(texts, start=1)]
        for texts in (hypotheses, references)
    )
    return left, right


def _refuse_stranger(
    strangers: list[Text],
    total: int,
    by_id: Mapping[str, Text],
    folded: Mapping[str, str],
    elsewhere: Callable[[str], str | None],
) -> None:
    first = strangers[0]
    id = first.id or ""
    if id.casefold() in folded:
        refuse(first.where, f"the id {folded[id.casefold()]!r}", f"{id!r}, which differs by case only",
               "Write ids as the references do.")  # fmt: skip
    split = elsewhere(id)
    found = f"{id!r}, " + (f"of split {split!r}" if split else "which they do not have")
    if len(strangers) > 1:
        found += f" (and {len(strangers) - 1} more of {total})"
    if split or len(strangers) == total:
        remedy = "The references are of another split: name the right file, or the split with --split."
    else:
        remedy = suggestion(id, list(by_id)[:1000]) if len(by_id) > 8 else suggestion(id, by_id)
    refuse(first.where, "an id of the references", found, remedy)
