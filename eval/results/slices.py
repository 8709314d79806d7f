"""``slices.json``: where a system is good and where it is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.metrics.bootstrap import resample
from eval.metrics.measures import Counts
from eval.metrics.scored_text import apply_convention, tokens
from eval.predictions.prediction_file import Prediction
from eval.results.scores import Interval, bounds
from eval.results.word_recall import Confusion, Numbers, Record, Words, confusions, numbers_of, words_of
from eval.settings import ScoreSettings
from extract.atomic_write import write_atomic
from extract.dataset.clip_index import Clip

TOKENS = (5, 10, 15, 20, 30)
"""Last token of each bin of sentence length."""
SECONDS = (2, 4, 6, 8, 12, 20)
"""End of each bin of clip length."""
RARE = 5
"""A word is rare that stands fewer times in train."""
SHOWN = ("bleu4", "rouge", "chrf")


class Slice(Record):
    """Scores of some of the clips, which say less the fewer there are: see the intervals."""

    label: str
    n: int
    bleu4: float
    rouge: float
    chrf: float
    intervals: dict[str, Interval]


class SystemSlices(Record):
    slices: dict[str, list[Slice]]
    """What the clips are sorted by, to the slices in their order. What cannot be known is absent."""
    words: Words
    confusions: list[Confusion]
    numbers: Numbers


class Slices(Record):
    """The whole file."""

    language: str
    systems: dict[str, SystemSlices]


@dataclass(frozen=True)
class Corpus:
    """What slices need to know of the dataset."""

    clips: Mapping[str, Clip]
    """Of the scored split, by id."""
    train: Sequence[str]
    """Sentences of the train split; empty where there is none."""
    signers: frozenset[str]
    """Who signs in train."""

    @classmethod
    def of(cls, scored: Iterable[Clip], train: Iterable[Clip]) -> Corpus:
        learnt = list(train)
        signers = frozenset(clip.signer for clip in learnt if clip.signer)
        return cls({clip.id: clip for clip in scored}, [clip.text for clip in learnt], signers)


Sort = Callable[[Prediction], str | None]
"""The label of a row's slice; None where it is not known."""


def slice_systems(
    rows: Mapping[str, Sequence[Prediction]],
    counts: Mapping[str, Counts],
    corpus: Corpus | None,
    settings: ScoreSettings,
    language: str,
) -> Slices:
    """Slices of every system.

    Args:
        rows: system to predictions.
        counts: the same, counted.
        corpus: None: only what the predictions themselves tell.
        language: mBART code, for function words and numbers.
    """
    known = corpus or Corpus({}, (), frozenset())
    frequencies = Counter(word for text in known.train for word in tokens(text, settings)) if known.train else None
    sorts = _sorts(known, frequencies, settings)
    return Slices(
        language=language,
        systems={
            name: SystemSlices(
                slices={
                    kind: found
                    for kind, (sort, order) in sorts.items()
                    if (found := _sliced(predictions, counts[name], sort, order, settings))
                },
                words=words_of(predictions, settings, language, frequencies),
                confusions=confusions(predictions, settings, language),
                numbers=numbers_of(predictions, language),
            )
            for name, predictions in rows.items()
        },
    )


def write_slices(path: str | Path, slices: Slices) -> Path:
    """Write ``slices.json`` atomically."""
    return write_atomic(path, slices.model_dump_json(indent=2) + "\n")


def _sorts(
    corpus: Corpus, frequencies: Mapping[str, int] | None, settings: ScoreSettings
) -> dict[str, tuple[Sort, list[str]]]:
    """How clips are sorted: kind to the label of a row and all labels in order (none: those that occur, sorted)."""
    clips = corpus.clips

    def length(row: Prediction) -> str | None:
        return _bin(len(tokens(row.reference, settings)), TOKENS, 1)

    def duration(row: Prediction) -> str | None:
        seconds = _seconds(clips.get(row.id))
        return None if seconds is None else _bin_of_time(seconds)

    def signer(row: Prediction) -> str | None:
        return clips[row.id].signer if row.id in clips else None

    sorts: dict[str, tuple[Sort, list[str]]] = {
        "sentence length": (length, _labels(TOKENS, 1)),
        "clip length": (duration, _time_labels()),
        "signer": (signer, []),
    }
    if corpus.signers:

        def met(row: Prediction) -> str | None:
            name = signer(row)
            return None if name is None else "seen" if name in corpus.signers else "unseen"

        sorts["signer seen in train"] = (met, ["seen", "unseen"])
    if frequencies is not None:
        learnt = {apply_convention(text, settings) for text in corpus.train}

        def repeated(row: Prediction) -> str | None:
            return "seen" if apply_convention(row.reference, settings) in learnt else "unseen"

        def rare(row: Prediction) -> str | None:
            found = sum(frequencies.get(word, 0) < RARE for word in tokens(row.reference, settings))
            return ("none", "one")[found] if found < 2 else "two or more"

        sorts["sentence seen in train"] = (repeated, ["seen", "unseen"])
        sorts["rare words"] = (rare, ["none", "one", "two or more"])
    return sorts


def _sliced(
    rows: Sequence[Prediction], counts: Counts, sort: Sort, order: Sequence[str], settings: ScoreSettings
) -> list[Slice]:
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        label = sort(row)
        if label is not None:
            places.setdefault(label, []).append(place)
    found = []
    for label in order or sorted(places):
        if label not in places:
            continue
        part = counts.take(places[label])
        scores = part.scores()
        resamples = resample(part, settings.bootstrap, ("bleu4", "rouge")) if settings.bootstrap else {}
        intervals = {name: bounds(values) for name, values in resamples.items()}
        found.append(Slice(label=label, n=len(part), intervals=intervals, **{name: scores[name] for name in SHOWN}))
    return found


def _seconds(clip: Clip | None) -> float | None:
    """A clip's length; None where it is not known."""
    if clip is None:
        return None
    if clip.start is not None and clip.end is not None:
        return clip.end - clip.start
    return clip.n_frames / clip.fps if clip.n_frames and clip.fps else None


def _labels(ends: Sequence[int], step: int) -> list[str]:
    """``1–5``, ``6–10``, ..., ``over 30``."""
    starts = [step, *(end + step for end in ends[:-1])]
    return ["0", *(f"{start}–{end}" for start, end in zip(starts, ends, strict=True)), f"over {ends[-1]}"]


def _bin(value: int, ends: Sequence[int], step: int) -> str:
    if value < step:
        return "0"
    return _labels(ends, step)[1 + sum(value > end for end in ends)]


def _time_labels() -> list[str]:
    return [*(f"{start}–{end} s" for start, end in zip((0, *SECONDS), SECONDS, strict=False)), f"over {SECONDS[-1]} s"]


def _bin_of_time(seconds: float) -> str:
    return _time_labels()[sum(seconds >= end for end in SECONDS)]
