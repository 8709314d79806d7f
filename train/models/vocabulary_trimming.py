"""Vocabulary trimming: a language model and its tokenizer without the pieces that the text never needs (section 4.1).

Nothing changes for text whose pieces are all kept: a unigram tokenizer takes the best sequence of pieces, which stays
the best one when others go. Kept besides, so that this holds to the letter:

- special pieces, language codes, T5's sentinels, and every id that the model's configuration names;
- the letters of the text, alone and at the start of a word: no word of known letters becomes unknown;
- one piece of the lowest score: the score of an unknown letter hangs on it.

Pieces keep their order, so that the special ones in front keep their ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from extract.errors import InputError
from train.models.tokenizer import load_tokenizer

KEPT = "kept.json"
_SENTINEL = re.compile(r"▁?<extra_id_\d+>")
_ID_FIELD = re.compile(r"_token_ids?$")
_SUPPRESSED = ("suppress_tokens", "begin_suppress_tokens")
_LINES = 10_000


def trim_tokenizer(
    tokenizer: PreTrainedTokenizerBase,
    lines: Sequence[str],
    configs: Sequence[Any],
    folder: Path,
    language: str | None = None,
) -> tuple[PreTrainedTokenizerBase, list[int]]:
    """Write the tokenizer with the pieces that the text needs into ``folder``, and their old ids beside it.

    Args:
        lines: the text.
        configs: of the model and of its generation: their special ids are kept.
        language: that the trimmed tokenizer is set to; None: as before.

    Returns:
        The trimmed tokenizer, and the kept old ids in the order of the new ones, which is ascending.

    Raises:
        InputError: not a unigram tokenizer, or one that reads the text differently when it is trimmed.
    """
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    model, name = described["model"], tokenizer.name_or_path or type(tokenizer).__name__
    if model["type"] != "Unigram" or model.get("byte_fallback"):
        found = "one that spells unknown letters in bytes" if model["type"] == "Unigram" else model["type"]
        raise InputError(f"tokenizer of {name}", expected="a unigram model, as mBART and T5 have", found=found,
                         remedy="Set train.stage2.trim to false.")  # fmt: skip
    kept = _needed(tokenizer, model["vocab"], lines, configs)
    new = {old: id for id, old in enumerate(kept)}
    if kept[-1] >= len(tokenizer):
        raise InputError(f"configuration of {name}", expected=f"special ids below {len(tokenizer)}, the pieces",
                         found=f"{kept[-1]}", remedy="Model and tokenizer do not belong together.")  # fmt: skip
    model["vocab"] = [model["vocab"][id] for id in kept if id < len(model["vocab"])]
    model["unk_id"] = new[model["unk_id"]]
    described["added_tokens"] = [{**token, "id": new[token["id"]]} for token in described["added_tokens"]]
    for token in (described["post_processor"] or {}).get("special_tokens", {}).values():
        token["ids"] = [new[id] for id in token["ids"]]
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")
    (folder / KEPT).write_text(json.dumps({"pieces": len(tokenizer), "kept": kept}), encoding="utf-8")
    trimmed = load_tokenizer(folder, language)
    _check_same(tokenizer, trimmed, kept, lines)
    return trimmed, kept


def read_kept(folder: Path) -> list[int]:
    """The old ids of a trimmed tokenizer's pieces."""
    kept: list[int] = json.loads((folder / KEPT).read_text(encoding="utf-8"))["kept"]
    return kept


def trim_model(model: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """Keep the rows of embeddings, output layer and its bias that belong to the kept pieces, in place.

    Special ids in its configuration and generation configuration become the new ones. Rows that belong to no piece,
    with which some models fill up their tables, go.

    Args:
        kept: ascending old ids; every special id of the configurations is among them.

    Raises:
        InputError: the model has fewer rows than the ids need.
    """
    words = model.get_input_embeddings()
    if kept[-1] >= words.num_embeddings:
        raise InputError(str(model.name_or_path), expected=f"at least {kept[-1] + 1} word embeddings",
                         found=f"{words.num_embeddings}",
                         remedy="Model and tokenizer do not belong together.")  # fmt: skip
    index, new, padding = torch.tensor(kept), {old: id for id, old in enumerate(kept)}, words.padding_idx
    tables = {table.weight.data_ptr(): table for table in (words, model.get_output_embeddings())}
    with torch.no_grad():
        for table in tables.values():  # one where they are tied
            table.weight[: len(kept)] = table.weight[index]
        if (bias := getattr(model, "final_logits_bias", None)) is not None:
            bias[:, : len(kept)] = bias[:, index]
    model.resize_token_embeddings(len(kept), mean_resizing=False)
    if padding is not None:
        model.get_input_embeddings().padding_idx = new[padding]
    for config in (model.config, model.generation_config):
        _rename_ids(vars(config), new)
    return model


def _needed(
    tokenizer: PreTrainedTokenizerBase, vocab: Sequence[tuple[str, float]], lines: Sequence[str], configs: Sequence[Any]
) -> list[int]:
    used = {id for encoded in _encoded(tokenizer, lines) for id in encoded}
    place = tokenizer.get_vocab()
    letters = {letter for piece in tokenizer.convert_ids_to_tokens(sorted(used)) for letter in piece}
    used.update(place[piece] for letter in letters for piece in (letter, f"▁{letter}") if piece in place)
    used.update(id for piece, id in place.items() if _SENTINEL.fullmatch(piece))
    used.update(tokenizer.all_special_ids, tokenizer.added_tokens_decoder)
    used.add(min(range(len(vocab)), key=lambda id: vocab[id][1]))
    for config in configs:
        used.update(_special_ids(config.to_dict()))
    return sorted(used)


def _encoded(tokenizer: PreTrainedTokenizerBase, lines: Sequence[str]) -> Iterator[list[int]]:
    """Pieces of each line, without special ones."""
    for start in range(0, len(lines), _LINES):
        yield from tokenizer(list(lines[start : start + _LINES]), add_special_tokens=False)["input_ids"]


def _check_same(
    tokenizer: PreTrainedTokenizerBase, trimmed: PreTrainedTokenizerBase, kept: Sequence[int], lines: Sequence[str]
) -> None:
    """Refuse a tokenizer whose class has rules of its own; unigram models have none."""
    remedy = "Set train.stage2.trim to false."
    if trimmed.convert_ids_to_tokens(list(range(len(trimmed)))) != tokenizer.convert_ids_to_tokens(list(kept)):
        raise InputError(f"tokenizer of {tokenizer.name_or_path}", expected="pieces in the order of tokenizer.json",
                         found=f"{type(tokenizer).__name__}, which changes it", remedy=remedy)  # fmt: skip
    for text, old, ids in zip(lines, _encoded(tokenizer, lines), _encoded(trimmed, lines), strict=True):
        if old != [kept[id] for id in ids]:
            raise InputError(f"sentence {text!r}", expected="the same pieces after trimming",
                             found=" ".join(trimmed.convert_ids_to_tokens(ids)), remedy=remedy)  # fmt: skip


def _special_ids(fields: Mapping[str, Any]) -> Iterator[int]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _special_ids(value)
        elif _ID_FIELD.search(str(name)):
            yield from (id for id in (value if isinstance(value, list) else [value]) if id is not None and id >= 0)


def _rename_ids(fields: dict[str, Any], new: Mapping[int, int]) -> None:
    """Replace the ids in a configuration's fields, nested ones too. What was suppressed and is gone needs no more."""
    for name, value in fields.items():
        if isinstance(value, dict):
            _rename_ids(value, new)
        elif _ID_FIELD.search(str(name)) and value is not None:
            fields[name] = [new[id] for id in value] if isinstance(value, list) else new[value] if value >= 0 else value
        elif name in _SUPPRESSED and value:
            fields[name] = [new[id] for id in value if id in new]
        elif name == "bad_words_ids" and value:
            fields[name] = [[new[id] for id in word] for word in value if all(id in new for id in word)]
