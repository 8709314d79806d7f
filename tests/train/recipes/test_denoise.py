"""The text side: tokenizer, targets, text infilling."""

from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import MBartTokenizer

from extract.errors import InputError
from train.data.targets import encode_targets, pad_labels, spoken_pieces
from train.models.language_model import load_language_model
from train.models.tokenizer import load_tokenizer, train_tokenizer
from train.recipes.denoise import DenoisingDataset, collate_denoising, infill, mask_pieces, pretrain, read_documents
from train.settings import DenoisingSettings

LINES = ["am montag regnet es im norden stark", "es schneit", "in der nacht werden es minus elf grad"] * 3


@pytest.fixture(scope="module")
def tokenizer() -> MBartTokenizer:
    return train_tokenizer(LINES, 100, "de_DE")


def test_specials_are_where_mbart_has_them(tokenizer: MBartTokenizer) -> None:
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == ["<s>", "<pad>", "</s>", "<unk>"]
    assert tokenizer.mask_token_id == len(tokenizer) - 1
    assert tokenizer.convert_tokens_to_ids("ar_AR") == len(tokenizer) - 26


def test_targets_end_with_end_of_sentence_and_language(tokenizer: MBartTokenizer) -> None:
    for text, ids in zip(LINES, encode_targets(tokenizer, LINES), strict=True):
        assert tokenizer.convert_ids_to_tokens(ids[-2:]) == ["</s>", "de_DE"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert tokenizer.unk_token_id not in ids


def test_frequent_words_are_one_piece(tokenizer: MBartTokenizer) -> None:
    assert tokenizer.tokenize("es schneit") == ["▁es", "▁schneit"]


def test_the_order_of_lines_does_not_matter(tokenizer: MBartTokenizer) -> None:
    again = train_tokenizer(LINES[::-1], 100, "de_DE")
    assert again.get_vocab() == tokenizer.get_vocab()


def test_saved_and_loaded(tokenizer: MBartTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path, "de_DE")
    assert type(again) is MBartTokenizer
    assert encode_targets(again, LINES) == encode_targets(tokenizer, LINES)


def test_unknown_language_is_refused() -> None:
    with pytest.raises(InputError, match="one of mBART's codes, found 'de'"):
        train_tokenizer(LINES, 100, "de")


def test_a_sentence_of_unknown_letters_is_refused(tokenizer: MBartTokenizer) -> None:
    with pytest.raises(InputError, match="'你好'"):
        encode_targets(tokenizer, ["es schneit", "你好"])


def test_spoken_pieces_are_the_sentences_own(tokenizer: MBartTokenizer) -> None:
    pieces = spoken_pieces(tokenizer, encode_targets(tokenizer, LINES))
    assert tokenizer.convert_ids_to_tokens(pieces[:1]) == ["▁es"]
    assert not set(pieces) & set(tokenizer.all_special_ids)


def test_labels_are_padded_with_what_the_loss_ignores() -> None:
    assert pad_labels([[5, 6, 7], [8]]).tolist() == [[5, 6, 7], [8, -100, -100]]


MASK = 999


@given(
    pieces=st.lists(st.integers(0, 99), min_size=1, max_size=30),
    rate=st.floats(0.05, 0.95),
    span=st.floats(0.1, 6),
    seed=st.integers(0, 99),
)
def test_infilling_hides_about_the_rate_and_keeps_the_order(
    pieces: list[int], rate: float, span: float, seed: int
) -> None:
    source = infill(pieces, repeat(MASK), rate, span, np.random.default_rng(seed))
    kept = [piece for piece in source if piece != MASK]
    rest = iter(pieces)
    assert all(piece in rest for piece in kept)  # a subsequence of the original
    assert MASK in source
    assert len(pieces) - len(kept) <= max(1, round(rate * len(pieces)))


def test_infilling_reaches_the_rate_on_average() -> None:
    pieces = list(range(40))
    hidden = [
        40 - sum(p != MASK for p in infill(pieces, repeat(MASK), 0.35, 3.5, np.random.default_rng(seed)))
        for seed in range(200)
    ]
    assert 0.30 <= np.mean(hidden) / 40 <= 0.36


def passages(tokenizer: MBartTokenizer, size: int) -> list[list[list[int]]]:
    pieces = [ids[:-2] for ids in encode_targets(tokenizer, LINES)]
    return [pieces[start : start + size] for start in range(0, len(pieces), size)]


def test_denoising_draws_anew_in_every_epoch_and_the_same_for_a_seed(tokenizer: MBartTokenizer) -> None:
    ending = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("de_DE")]
    data = DenoisingDataset(passages(tokenizer, 1), ending, [tokenizer.mask_token_id], 0.35, 3.5, seed=1)
    assert [data[i]["labels"] for i in range(len(data))] == encode_targets(tokenizer, LINES)
    first = [data[i]["source"] for i in range(len(data))]
    data.set_epoch(1)
    assert [data[i]["source"] for i in range(len(data))] != first
    data.set_epoch(0)
    assert [data[i]["source"] for i in range(len(data))] == first
    assert all(source[-2:] == ending for source in first)
    batch = collate_denoising(tokenizer.pad_token_id)([data[0], data[1]])
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert (batch["input_ids"][batch["attention_mask"] == 0] == tokenizer.pad_token_id).all()


def test_sentences_are_permuted_in_the_source_and_in_order_in_the_target(tokenizer: MBartTokenizer) -> None:
    end, language, mask = 2, tokenizer.convert_tokens_to_ids("de_DE"), tokenizer.mask_token_id
    (sentences,) = whole = passages(tokenizer, len(LINES))
    data = DenoisingDataset(whole, [end, language], [mask], 0.35, 3.5, seed=0)
    expected = [id for sentence in sentences for id in [*sentence, end]] + [language]
    orders = set()
    for epoch in range(20):
        data.set_epoch(epoch)
        example = data[0]
        assert example["labels"] == expected
        assert example["source"][-2:] == [end, language]
        parts = " ".join(map(str, example["source"][:-1])).split(f" {end}")[:-1]
        assert len(parts) == len(sentences)
        assert all(str(mask) in part.split() for part in parts)  # the infilling, in every sentence
        kept = [{int(id) for id in part.split()} - {mask} for part in parts]
        orders.add(tuple(next((n for n, s in enumerate(sentences) if ids <= set(s)), -1) for ids in kept))
    assert len(orders) > 10
    assert all(-1 not in order for order in orders)  # whole sentences change places, not pieces


def test_mt5_has_one_sentinel_for_each_span(small_mt5: Path) -> None:
    tokenizer = load_tokenizer(small_mt5)
    masks = mask_pieces(tokenizer)
    assert tokenizer.convert_ids_to_tokens(masks[:2]) == ["<extra_id_0>", "<extra_id_1>"]
    assert len(masks) == 10
    pieces = [ids[:-1] for ids in encode_targets(tokenizer, LINES)]
    data = DenoisingDataset([pieces], [tokenizer.eos_token_id], masks, 0.5, 1.0, seed=0)
    used = [id for id in data[0]["source"] if id in masks]
    assert len(used) > len(set(used)) == 10  # more spans than sentinels: the last one stands for the rest
    assert used[:9] == masks[:9]
    assert set(used[9:]) == {masks[9]}


def test_passages_end_with_their_document_and_with_the_models_positions(
    small_mbart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = load_language_model(small_mbart, "de_DE")
    seen: list[DenoisingDataset] = []

    def watch(model: object, settings: object, data: DenoisingDataset, *rest: object, **options: object) -> list:
        seen.append(data)
        return []

    monkeypatch.setattr("train.recipes.denoise.fit", watch)
    lengths = {text: len(ids) for text, ids in zip(LINES, encode_targets(tokenizer, LINES), strict=True)}
    documents = [LINES[:2], LINES[:1], LINES * 2]
    for most, expected in ((1, 21), (2, 11), (99, 2 + -(-sum(lengths[line] - 1 for line in LINES * 2) // 39))):
        pretrain(model, tokenizer, documents, DenoisingSettings(sentences=most), tmp_path)
        data = seen.pop()
        targets = [data[i]["labels"] for i in range(len(data))]
        assert max(map(len, targets)) <= model.config.max_position_embeddings == 40
        assert max(target.count(2) for target in targets) == min(most, max(target.count(2) for target in targets))
        assert len(targets) == expected if most < 99 else expected <= len(targets) < 11
        joined = [id for target in targets for id in target[:-1]]
        assert joined == [id for document in documents for line in document for id in
                          encode_targets(tokenizer, [line])[0][:-1]]  # fmt: skip


@pytest.mark.parametrize("name", ["small_mbart", "small_mt5"])
def test_a_pretrained_model_is_adapted(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Both families get better at filling in the gaps of the text that they go on with."""
    model, tokenizer = load_language_model(request.getfixturevalue(name), "de_DE")
    settings = DenoisingSettings(sentences=2, steps=100, epochs=None, batch_size=6, learning_rate=1e-2)
    log = pretrain(model, tokenizer, [LINES], settings, tmp_path)
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < 0.7 * losses[0]


def test_a_sentence_that_is_too_long_is_refused_before_training(small_mbart: Path, tmp_path: Path) -> None:
    model, tokenizer = load_language_model(small_mbart, "de_DE")
    with pytest.raises(InputError, match=r"at most 40 pieces, the model's positions, found 4\d"):
        pretrain(model, tokenizer, [LINES, ["es schneit " * 20]], DenoisingSettings(), tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_text_file_is_read_by_documents(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeffa b\r\nc\n\n \nd\n\n".encode())
    assert read_documents(path) == [["a b", "c"], ["d"]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        (b"\n \n", "at least one"),
        (b"gr\xfcn\n", "byte 2"),
        (b"one\ntwo\0\n", "a zero byte in line 2"),
        ("folder", "directory"),
    ],
)
def test_bad_text_file(tmp_path: Path, content: bytes | str | None, says: str) -> None:
    path = tmp_path / "text.txt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
    with pytest.raises(InputError, match=says):
        read_documents(path)
