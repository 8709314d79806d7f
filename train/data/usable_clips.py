"""Which clips of a split stage 2 can learn from, and why the others are left out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from extract.dataset.clip_index import Clip
from extract.errors import InputError
from extract.settings import PLAIN
from extract.store.feature_store import Features, FeatureStore
from train.data.feature_dataset import FeatureDataset
from train.settings import AugmentSettings

NAMED = 5
"""Clips that a message names; all of them are in the translator's provenance."""


@dataclasses.dataclass(frozen=True, slots=True)
class Usable:
    """Clips of a split with their target ids, and the others with their reason."""

    clips: list[Clip]
    targets: list[list[int]]
    left_out: dict[str, str]

    def said(self) -> list[str]:
        """One line per reason, with its count and the first clips."""
        reasons = Counter(self.left_out.values())
        total = len(self.clips) + len(self.left_out)
        return [
            f"{count} of {total} clips left out, {reason}: {_named(self.left_out, reason)}"
            for reason, count in reasons.most_common()
        ]


def usable(
    store: FeatureStore,
    clips: Sequence[Clip],
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    max_left_out: float = 0.0,
) -> Usable:
    """The clips that have features and a sentence, neither longer than the model's positions.

    Raises:
        InputError: none is left, or more than ``max_left_out`` of them, as a share, are left out.
    """
    limit = positions(model)
    present = store.lengths()
    encoded = tokenizer(text_target=[clip.text for clip in clips])["input_ids"]
    known = tokenizer.batch_decode(encoded, skip_special_tokens=True)
    failures = store.failures() if any(clip.id not in present for clip in clips) else {}
    left_out: dict[str, str] = {}
    kept = []
    for clip, ids, text in zip(clips, encoded, known, strict=True):
        if clip.id not in present:
            failure = failures.get(clip.id)
            left_out[clip.id] = f"no features ({failure.kind})" if failure else "no features"
        elif not text.strip():
            left_out[clip.id] = "no sentence" if not clip.text.strip() else "no piece of the sentence is known"
        elif limit and present[clip.id] > limit:
            left_out[clip.id] = f"more than the model's {limit} positions: features"
        elif limit and len(ids) > limit:
            left_out[clip.id] = f"more than the model's {limit} positions: target pieces"
        else:
            kept.append((clip, ids))
    found = Usable([clip for clip, _ in kept], [list(ids) for _, ids in kept], left_out)
    if not kept or len(left_out) > max_left_out * len(clips):
        raise InputError(
            store.location, expected=f"at least {1 - max_left_out:.0%} of {len(clips)} clips that can be used",
            found=f"{len(kept)}; {'; '.join(found.said())}",
            remedy="Extract or import the absent features, mend the annotations, use a larger frames.keep_every for "
            "clips that are too long, or raise max_left_out.",
        )  # fmt: skip
    return found


def positions(model: PreTrainedModel) -> int | None:
    """Source and target positions of a language model; None where they are relative and without a limit (mT5)."""
    return getattr(model.config, "max_position_embeddings", None)


def load_examples(
    store: FeatureStore,
    chosen: Usable,
    views: Sequence[str] = (PLAIN,),
    seed: int = 0,
    augmentation: AugmentSettings | None = None,
    longest: int | None = None,
) -> FeatureDataset:
    """The features of the chosen clips, read into one array per view; arguments as of ``FeatureDataset``.

    Raises:
        InputError: stored bytes are damaged, or a feature is not finite.
    """
    loaded = []
    for view in views:
        having = store.lengths(view)  # a view that was added later may lack a clip
        features = store.load([clip.id for clip in chosen.clips if clip.id in having], view)
        _require_finite(store, features)
        loaded.append(features)
    return FeatureDataset(loaded, chosen.targets, seed, augmentation, longest)


def _require_finite(store: FeatureStore, features: Features) -> None:
    # The sum of a row is finite when all in it are: one pass without an array of truth values.
    sums = features.array.sum(axis=1, dtype=np.float64)
    if np.isfinite(sums).all():
        return
    owners = np.searchsorted(features.offsets, np.flatnonzero(~np.isfinite(sums)), side="right") - 1
    bad = {features.ids[owner]: "" for owner in dict.fromkeys(owners.tolist())}
    raise InputError(
        store.location, expected="finite features", found=f"NaN or infinity in {len(bad)} clips: {_named(bad, '')}",
        remedy="Extract with dtype float32; if they stay, the encoder's weights are not finite.",
    )  # fmt: skip


def _named(clips: Mapping[str, str], reason: str) -> str:
    ids = [id for id, why in clips.items() if why == reason]
    more = len(ids) - NAMED
    return ", ".join(islice(ids, NAMED)) + (f" and {more} more" if more > 0 else "")
