"""Translating cached features, and what a model says without any."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from eval.predictions.prediction_file import Prediction
from eval.translation.gather_shares import gather, share
from extract.dataset.clip_index import Clip
from extract.errors import InputError
from extract.store.feature_store import Features, FeatureStore
from train.loop.search_batches import clips_at_once
from train.models.translator import SignTranslator


@dataclass(frozen=True)
class Translation:
    """One hypothesis."""

    text: str
    score: float | None
    """Log probability, normalised by length as beam search ranks it; greedy: None."""
    pieces: tuple[str, ...]
    """Word pieces of the text, as the decoder wrote them."""


def translate_split(
    model: SignTranslator,
    tokenizer: PreTrainedTokenizerBase,
    store: FeatureStore,
    clips: Sequence[Clip],
    *,
    beams: int,
    max_length: int,
    at_once: int | None = None,
    on_clip: Callable[[int, int], None] | None = None,
) -> list[Prediction]:
    """One prediction per clip of the split; one that is not ``translatable`` gets an empty hypothesis.

    Processes that ``torchrun`` started share the work; each of them returns the whole split.

    Args:
        store: features made as those that the model learnt from; others are refused.
        at_once: as of ``translate``.
        on_clip: called with clips done and clips in all.

    Raises:
        InputError: features of another fingerprint; what differs is named.
    """
    if model.config.features is not None:
        store.require(model.config.features)
    ids = translatable(model, store, clips)
    mine = share(ids)
    features = store.load(mine)
    texts = translate(model, tokenizer, features, beams=beams, max_length=max_length, at_once=at_once, on_clip=on_clip)
    return _predictions(clips, gather(dict(zip(mine, texts, strict=True)), ids))


def translate_clips(
    model: SignTranslator,
    tokenizer: PreTrainedTokenizerBase,
    features: Features,
    clips: Sequence[Clip],
    *,
    beams: int,
    max_length: int,
    at_once: int | None = None,
    on_clip: Callable[[int, int], None] | None = None,
) -> list[Prediction]:
    """One prediction per clip; one without features, or longer than the model's positions, gets an empty hypothesis."""
    limit = positions(model)
    lengths = np.diff(features.offsets)
    short = [place for place, length in enumerate(lengths) if 0 < length <= limit]
    rows = [features.array[features.offsets[place] : features.offsets[place + 1]] for place in short]
    if not rows:
        return _predictions(clips, {})
    fitting = Features([features.ids[place] for place in short], np.concatenate(rows), np.cumsum([0, *lengths[short]]))
    texts = translate(model, tokenizer, fitting, beams=beams, max_length=max_length, at_once=at_once, on_clip=on_clip)
    return _predictions(clips, dict(zip(fitting.ids, texts, strict=True)))


def _predictions(clips: Sequence[Clip], found: Mapping[str, Translation]) -> list[Prediction]:
    return [
        Prediction(clip.id, found[clip.id].text, clip.text, clip.n_frames, found[clip.id].score)
        if clip.id in found
        else Prediction(clip.id, "", clip.text, clip.n_frames)
        for clip in clips
    ]


def positions(model: SignTranslator) -> float:
    """Longest source that the language model takes."""
    return getattr(model.language_model.config, "max_position_embeddings", None) or float("inf")


def translatable(model: SignTranslator, store: FeatureStore, clips: Sequence[Clip]) -> list[str]:
    """Ids of the clips that have features, and not more of them than the language model has positions."""
    present = store.lengths()
    limit = positions(model)
    return [clip.id for clip in clips if 0 < present.get(clip.id, 0) <= limit]


def text_prior(
    model: SignTranslator,
    tokenizer: PreTrainedTokenizerBase,
    store: FeatureStore,
    clips: Sequence[Clip],
    *,
    beams: int,
    max_length: int,
) -> list[Prediction]:
    """The sentence that the model finds most likely with every feature masked to zero, for every clip alike."""
    present = store.lengths()
    lengths = [present[id] for id in translatable(model, store, clips)]
    steps = int(np.median(lengths)) if lengths else 1
    blank = Features(["masked"], np.zeros((steps, store.width), np.float32), np.array([0, steps]))
    (prior,) = translate(model, tokenizer, blank, beams=beams, max_length=max_length)
    return [Prediction(clip.id, prior.text, clip.text, clip.n_frames, prior.score) for clip in clips]


def translate(
    model: SignTranslator,
    tokenizer: PreTrainedTokenizerBase,
    features: Features,
    *,
    beams: int,
    max_length: int,
    at_once: int | None = None,
    on_clip: Callable[[int, int], None] | None = None,
) -> list[Translation]:
    """Beam search over all clips of ``features``, in their order.

    Clips are batched by length, so that little is spent on padding; the result does not depend on it.

    Args:
        at_once: clips of a batch; None: as many as memory takes on a GPU, 32 elsewhere. Halved where memory does not
            suffice after all.

    Raises:
        InputError: there is not memory enough for one clip.
    """
    model.eval()
    device = next(model.parameters()).device
    lengths = np.diff(features.offsets)
    order = np.argsort(-lengths, kind="stable")
    clips = at_once or clips_at_once(model, int(lengths.max(initial=1)), beams, max_length)
    found: dict[int, Translation] = {}
    while len(found) < len(order):
        batch = order[len(found) : len(found) + clips]
        packed = [features.array[features.offsets[i] : features.offsets[i + 1]] for i in batch]
        try:
            output: Any = model.generate(
                features=torch.from_numpy(np.concatenate(packed)).float().to(device),
                lengths=lengths[batch].tolist(),
                num_beams=beams,
                max_new_tokens=max_length,
                do_sample=False,
                return_dict_in_generate=True,
                output_scores=True,
            )
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise InputError(f"memory of {device}", expected="room for the search over one clip",
                                 found=str(error).split(". ")[0],
                                 remedy="Use fewer beams, or a smaller max_length.") from error  # fmt: skip
            clips = len(batch) // 2
            continue
        texts = tokenizer.batch_decode(output.sequences, skip_special_tokens=True)
        pieces = [tokenizer.convert_ids_to_tokens(ids, skip_special_tokens=True) for ids in output.sequences.tolist()]
        scores = output.sequences_scores.tolist() if beams > 1 else [None] * len(texts)
        for i, text, score, written in zip(batch, texts, scores, pieces, strict=True):
            found[int(i)] = Translation(text.strip(), score, tuple(written))
        if on_clip:
            on_clip(len(found), len(order))
    return [found[i] for i in range(len(order))]
