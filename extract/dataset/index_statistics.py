"""Statistics of a clip index in one pass: lengths, vocabulary, signers, and which sentences and sources recur.

What is kept of a clip is numbers and 16-byte digests, under 150 bytes, so that a million clips fit: no sentence and no
clip. A clip goes by its ordinal, its place in the iteration, and ``pick`` fetches the few that are to be shown.
"""

from __future__ import annotations

import dataclasses
import hashlib
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from extract.dataset.clip_index import SPLITS, Clip

TRAIN = SPLITS[0]
FULL_STOPS = ".。"
_OTHER_ENDS = "!?！？…"
_CONTROL = ("Cc", "Cf", "Cs", "Co", "Cn")
"""Unicode categories of characters that no sentence should hold: control, format, surrogate, private, unassigned."""

Text = Callable[[str], str]
Tokens = Callable[[str], Sequence[str]]
Oddity = Literal["empty", "control", "spaces", "composition", "capitals", "dot", "no end"]
Key = Literal["sentence", "convention", "span", "source"]
Measure = Literal["frames", "seconds", "sampled", "words", "characters"]
MEASURES: tuple[Measure, ...] = ("frames", "seconds", "sampled", "words", "characters")


def _integers() -> array[int]:
    return array("q")


@dataclasses.dataclass(slots=True)
class SplitStatistics:
    """What one pass over a split's clips leaves. Columns are in the order of the clips."""

    ordinals: array[int] = dataclasses.field(default_factory=_integers)
    frames: array[int] = dataclasses.field(default_factory=_integers)
    """On disk; 0 where unknown, -1 where the clip cannot be read."""
    seconds: array[float] = dataclasses.field(default_factory=lambda: array("d"))
    """NaN where unknown."""
    words: array[int] = dataclasses.field(default_factory=_integers)
    characters: array[int] = dataclasses.field(default_factory=_integers)
    """Code points that are not white space."""
    tokens: array[int] = dataclasses.field(default_factory=_integers)
    """At the dataset's level."""
    digests: dict[Key, bytearray] = dataclasses.field(
        default_factory=lambda: {key: bytearray() for key in ("sentence", "convention", "span", "source")}
    )
    """16 bytes a clip: of the sentence with single spaces, of the same in the text convention, of the source with its
    times, of the source."""
    vocabulary: Counter[str] = dataclasses.field(default_factory=Counter)
    """Tokens at the dataset's level, in the text convention."""
    letters: Counter[str] = dataclasses.field(default_factory=Counter)
    """Code points that are not white space."""
    letter_in: dict[str, int] = dataclasses.field(default_factory=dict)
    """Ordinal of the first clip that has the letter."""
    signers: Counter[str | None] = dataclasses.field(default_factory=Counter)
    problems: dict[str, array[int]] = dataclasses.field(default_factory=dict)
    """Kind of problem to the clips that cannot be read."""
    oddities: dict[Oddity, array[int]] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ordinals)

    def column(self, measure: Measure | Literal["tokens"], keep_every: int = 1) -> NDArray[np.float64]:
        """One number per clip, NaN where it is not known; ``sampled`` is the frames that sampling keeps."""
        values = np.asarray(self.frames if measure == "sampled" else getattr(self, measure), dtype=np.float64)
        if measure in ("frames", "sampled"):
            values = np.where(values > 0, values, np.nan)
        return np.ceil(values / keep_every) if measure == "sampled" else values

    def keys(self, of: Key) -> NDArray[np.bytes_]:
        """(clips,) digests."""
        return np.frombuffer(self.digests[of], dtype="S16")

    def readable(self) -> NDArray[np.int64]:
        """Ordinals of the clips without a problem."""
        return np.asarray(self.ordinals, dtype=np.int64)[np.asarray(self.frames, dtype=np.int64) >= 0]


def gather(clips: Iterable[Clip], tokens: Tokens, convention: Text) -> dict[str, SplitStatistics]:
    """Statistics per split, in the order train, dev, test, others.

    Args:
        clips: of all splits, in any order.
        tokens: the tokens of a sentence at the dataset's level, in its convention.
        convention: a sentence as scores see it; applied to the sentence with single spaces.
    """
    splits: dict[str, SplitStatistics] = {}
    for ordinal, clip in enumerate(clips):
        _add(splits.setdefault(clip.split, SplitStatistics()), ordinal, clip, tokens, convention)
    order = [*SPLITS, *sorted(splits.keys() - set(SPLITS))]
    return {name: splits[name] for name in order if name in splits}


def pick(clips: Iterable[Clip], wanted: Collection[int]) -> dict[int, Clip]:
    """The clips at the ordinals; iterates no further than the last of them."""
    left, found = set(wanted), dict[int, Clip]()
    if left:
        for ordinal, clip in enumerate(clips):
            if ordinal in left:
                found[ordinal] = clip
                if len(found) == len(left):
                    break
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """Of one measure over the clips of which it is known."""

    n: int
    min: float
    median: float
    mean: float
    max: float


def summary(values: NDArray[np.float64]) -> Summary | None:
    """None where no value is known."""
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    return Summary(known.size, float(known.min()), float(np.median(known)), float(known.mean()), float(known.max()))


@dataclasses.dataclass(frozen=True, slots=True)
class Vocabulary:
    """Of one split."""

    size: int
    tokens: int
    singletons: int
    unseen: float | None
    """Share of the vocabulary that is not in train's; None for train and where there is none."""
    unseen_tokens: float | None
    """Share of the running tokens that is not in train's vocabulary."""


def vocabularies(splits: Mapping[str, SplitStatistics]) -> dict[str, Vocabulary]:
    """Sizes per split, and what train never showed."""
    known = splits[TRAIN].vocabulary if TRAIN in splits else None
    return {name: _vocabulary(of.vocabulary, None if name == TRAIN else known) for name, of in splits.items()}


def shared(splits: Mapping[str, SplitStatistics], split: str, other: str, key: Key) -> NDArray[np.int64]:
    """Ordinals of the clips of ``split`` whose digest occurs in ``other``."""
    of = splits[split]
    return np.asarray(of.ordinals, dtype=np.int64)[np.isin(of.keys(key), splits[other].keys(key))]


def repeated(of: SplitStatistics, key: Key) -> tuple[int, NDArray[np.int64]]:
    """How many sentences (or sources) a split has more than once, and the ordinals of the clips that have them."""
    _, inverse, counts = np.unique(of.keys(key), return_inverse=True, return_counts=True)
    return int((counts > 1).sum()), np.asarray(of.ordinals, dtype=np.int64)[counts[inverse] > 1]


def odd_rates(
    splits: Mapping[str, SplitStatistics], deviations: float = 5.0, factor: float = 2.0
) -> dict[str, tuple[float, NDArray[np.int64]]]:
    """Clips whose tokens per second are far from the median of all splits.

    Args:
        deviations: at least so many robust standard deviations (1.4826 times the median absolute deviation) of the
            logarithm, and
        factor: at least so many times slower or faster.

    Returns:
        Per split with such clips, the median rate and their ordinals.
    """
    rates = {
        name: np.log(np.divide(of.column("tokens"), of.column("seconds"), out=np.full(len(of), np.nan),
                               where=(of.column("tokens") > 0) & (of.column("seconds") > 0)))
        for name, of in splits.items()
    }  # fmt: skip
    every = np.concatenate([*rates.values(), np.array([])])
    every = every[np.isfinite(every)]
    if not every.size:
        return {}
    middle = np.median(every)
    bound = max(deviations * 1.4826 * float(np.median(np.abs(every - middle))), np.log(factor))
    odd = {
        name: np.asarray(splits[name].ordinals, dtype=np.int64)[np.abs(rate - middle) > bound]
        for name, rate in rates.items()
    }
    return {name: (float(np.exp(middle)), found) for name, found in odd.items() if found.size}


def _add(of: SplitStatistics, ordinal: int, clip: Clip, tokens: Tokens, convention: Text) -> None:
    text = " ".join(clip.text.split())
    of.ordinals.append(ordinal)
    of.frames.append(-1 if clip.problem is not None else clip.n_frames)
    of.seconds.append(_seconds(clip))
    of.words.append(len(text.split()))
    letters = text.replace(" ", "")
    of.characters.append(len(letters))
    listed = tokens(text)
    of.tokens.append(len(listed))
    of.vocabulary.update(listed)
    of.letters.update(letters)
    for letter in set(letters):
        of.letter_in.setdefault(letter, ordinal)
    of.signers[clip.signer] += 1
    of.digests["sentence"] += _digest(text)
    of.digests["convention"] += _digest(convention(text))
    of.digests["span"] += _digest(f"{clip.start}\n{clip.end}\n{clip.source}")
    of.digests["source"] += _digest(clip.source)
    if clip.problem is not None:
        of.problems.setdefault(clip.problem.partition(":")[0], _integers()).append(ordinal)
    for oddity in _oddities(clip.text, text):
        of.oddities.setdefault(oddity, _integers()).append(ordinal)


def _seconds(clip: Clip) -> float:
    if clip.problem is not None:
        return float("nan")
    if clip.end is not None:
        return clip.end - (clip.start or 0.0)
    return clip.n_frames / clip.fps if clip.n_frames > 0 and clip.fps > 0 else float("nan")


def _oddities(raw: str, text: str) -> Iterable[Oddity]:
    if not text:
        yield "empty"
        return
    if any(unicodedata.category(letter) in _CONTROL or letter == "\ufffd" for letter in set(raw)):
        yield "control"
    if raw != text:
        yield "spaces"
    if not unicodedata.is_normalized("NFC", raw):
        yield "composition"
    if text != text.lower():
        yield "capitals"
    if text[-1] in FULL_STOPS:
        yield "dot"
    elif text[-1] not in _OTHER_ENDS:
        yield "no end"


def _vocabulary(counts: Counter[str], known: Counter[str] | None) -> Vocabulary:
    running, once = counts.total(), sum(times == 1 for times in counts.values())
    if known is None or not counts:
        return Vocabulary(len(counts), running, once, None, None)
    unseen = [times for token, times in counts.items() if token not in known]
    return Vocabulary(len(counts), running, once, len(unseen) / len(counts), sum(unseen) / running)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
