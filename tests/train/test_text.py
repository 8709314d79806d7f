"""The text side: tokenizer, targets, text infilling."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import MBartTokenizer

from extract.errors import InputError
from train.denoise import DenoisingDataset, collate_denoising, infill, read_sentences
from train.labels import encode_targets, pad_labels, spoken_pieces
from train.tokenizer import load_tokenizer, train_tokenizer

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
    source = infill(pieces, MASK, rate, span, np.random.default_rng(seed))
    kept = [piece for piece in source if piece != MASK]
    rest = iter(pieces)
    assert all(piece in rest for piece in kept)  # a subsequence of the original
    assert MASK in source
    assert len(pieces) - len(kept) <= max(1, round(rate * len(pieces)))


def test_infilling_reaches_the_rate_on_average() -> None:
    pieces = list(range(40))
    hidden = [
        40 - sum(p != MASK for p in infill(pieces, MASK, 0.35, 3.5, np.random.default_rng(seed))) for seed in range(200)
    ]
    assert 0.30 <= np.mean(hidden) / 40 <= 0.36


def test_denoising_draws_anew_in_every_epoch_and_the_same_for_a_seed(tokenizer: MBartTokenizer) -> None:
    targets = encode_targets(tokenizer, LINES)
    data = DenoisingDataset(targets, tokenizer.mask_token_id, 0.35, 3.5, seed=1)
    first = [data[i]["source"] for i in range(len(data))]
    data.set_epoch(1)
    assert [data[i]["source"] for i in range(len(data))] != first
    data.set_epoch(0)
    assert [data[i]["source"] for i in range(len(data))] == first
    assert all(source[-2:] == target[-2:] for source, target in zip(first, targets, strict=True))
    batch = collate_denoising(tokenizer.pad_token_id)([data[0], data[1]])
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert (batch["input_ids"][batch["attention_mask"] == 0] == tokenizer.pad_token_id).all()


@pytest.mark.parametrize(
    ("content", "says"), [(None, "no such file"), (b"\n \n", "at least one"), (b"gr\xfcn\n", "byte 2")]
)
def test_bad_text_file(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_sentences(path)


def test_a_missing_tokenizer_says_how_to_fetch_it() -> None:
    with pytest.raises(InputError, match="hf download /nowhere/at/all"):
        load_tokenizer("/nowhere/at/all", "de_DE")
