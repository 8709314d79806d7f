"""The built-in corpus: deterministic, disjoint, with signs that differ."""

import hashlib
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from extract.errors import InputError
from pipeline.corpus.grammar import Meaning, meanings, number, sentence
from pipeline.corpus.layout import PRESETS, SEEN_SIGNERS, compose, write_corpus
from pipeline.corpus.lexicon import SIGN, lexicon
from pipeline.corpus.translations import chinese, english


def content(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return total.hexdigest()


@pytest.mark.long
def test_the_same_seed_writes_the_same_bytes(tiny_corpus: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "again", "tiny", workers=1)
    assert content(tmp_path / "again") == content(tiny_corpus)


def test_another_seed_another_corpus() -> None:
    assert compose(PRESETS["tiny"], 0) != compose(PRESETS["tiny"], 1)
    assert lexicon(0) != lexicon(1)


def test_nothing_is_drawn_again(tmp_path: Path) -> None:
    drawn: list[int] = []
    for _ in range(2):
        write_corpus(tmp_path / "corpus", "tiny", workers=2, on_clip=lambda done, total: drawn.append(done))
    assert len(drawn) == 72
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("preset", PRESETS)
def test_splits_are_disjoint(preset: str) -> None:
    utterances, monolingual = compose(PRESETS[preset], 0)
    texts = {split: {u.text for u in utterances if u.split == split} for split in ("train", "dev", "test")}
    signs = {split: {u.signs for u in utterances if u.split == split} for split in ("train", "dev", "test")}
    for a, b in itertools.combinations(texts, 2):
        assert not texts[a] & texts[b]
        assert not signs[a] & signs[b]
    assert not (texts["dev"] | texts["test"]) & set(monolingual)
    assert len({u.name for u in utterances}) == len(utterances)
    assert len(monolingual) == PRESETS[preset].sentences


def test_some_test_signers_are_unseen() -> None:
    utterances, _ = compose(PRESETS["demo"], 0)
    seen = {u.signer for u in utterances if u.split != "test"}
    assert seen == set(range(SEEN_SIGNERS))
    unseen = [u.signer not in seen for u in utterances if u.split == "test"]
    assert 0.15 < np.mean(unseen) < 0.35


def test_every_sign_is_in_train() -> None:
    utterances, _ = compose(PRESETS["demo"], 0)
    counts = Counter(sign for u in utterances if u.split == "train" for sign in u.signs)
    assert counts.keys() == set(SIGN)
    assert min(counts.values()) >= 20


@pytest.mark.parametrize("seed", range(5))
def test_any_two_signs_differ(seed: int) -> None:
    forms = lexicon(seed)
    assert forms.keys() == set(SIGN)
    assert min(a.difference(b) for a, b in itertools.combinations(forms.values(), 2)) >= 3


def test_meanings_have_one_to_four_signs_of_their_own() -> None:
    all_signs = [meaning.signs() for meaning in meanings()]
    assert set(map(len, all_signs)) == {1, 2, 3, 4}
    assert len(set(all_signs)) == len(all_signs)


@pytest.mark.parametrize(
    ("meaning", "signs", "text"),
    [
        (Meaning("MONTAG", "NORD", "REGEN", "STARK"), "MONTAG NORD REGEN STARK", "am montag regnet es im norden stark"),
        (Meaning(None, None, "NEBEL", "SCHWACH"), "NEBEL SCHWACH", "es bildet sich nebel schwach"),
        (
            Meaning(None, "KUESTE", degrees=25),
            "KUESTE ZWANZIG FUENF GRAD",
            "an der küste werden es fünfundzwanzig grad",
        ),
        (Meaning("NACHT", None, degrees=-11), "NACHT ZEHN EINS MINUS", "in der nacht werden es minus elf grad"),
    ],
)
def test_german_order_differs_from_sign_order(meaning: Meaning, signs: str, text: str) -> None:
    class Usual:
        """Always the usual wording."""

        def random(self) -> float:
            return 1.0

    assert meaning.signs() == tuple(signs.split())
    assert sentence(meaning, Usual()) == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "word"),
    [(1, "ein"), (7, "sieben"), (10, "zehn"), (16, "sechzehn"), (20, "zwanzig"), (21, "einundzwanzig"),
     (39, "neununddreißig"), (-12, "minus zwölf")],
)  # fmt: skip
def test_numerals(value: int, word: str) -> None:
    assert number(value) == word


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match="choose another folder"):
        write_corpus(tmp_path, "tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


@pytest.mark.long
@pytest.mark.parametrize("layout", ["csl_daily", "how2sign"])
def test_other_layouts_are_deterministic_too(layout: str, tmp_path: Path) -> None:
    roots = [write_corpus(tmp_path / str(workers), "tiny", workers=workers, layout=layout) for workers in (1, 2)]
    assert content(roots[0]) == content(roots[1])
    assert write_corpus(tmp_path / "1", "tiny", layout=layout) == roots[0]


def test_every_meaning_can_be_said_in_every_language() -> None:
    rng = np.random.default_rng(0)
    said = {say: [say(meaning, rng) for meaning in meanings()] for say in (chinese, english)}
    assert len(set(said[chinese])) == len(said[chinese])
    assert not any(character.isascii() for text in said[chinese] for character in text)
    assert all(text[0].isupper() or text[0] == '"' for text in said[english])
    assert any('"' in text[1:-1] for text in said[english])
