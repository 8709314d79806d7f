"""Statistics and findings of clips: hand-made ones with known faults, and invariants over any."""

import statistics
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.dataset.clip_index import Clip
from extract.dataset.dataset_findings import Expectations, Finding, Limit, findings
from extract.dataset.index_statistics import gather, odd_rates, pick, repeated, shared, summary, vocabularies
from extract.decoding.sampling import sampled

ANY = Expectations(counts={"train": None, "dev": None, "test": None}, level="word", keep_every=4)


def clip(id: str, split: str, text: str, frames: int = 100, **fields: object) -> Clip:
    given = {"source": f"{split}/{id}", "n_frames": frames, "fps": 25.0, "language": "de_DE", "signer": "S1", **fields}
    return Clip(id=id, split=split, text=text, **given)  # type: ignore[arg-type]


def strip_dot(text: str) -> str:
    return text.rstrip(" .")


def found(clips: Sequence[Clip], expected: Expectations = ANY) -> dict[tuple[str, str | None], Finding]:
    listed = findings(gather(clips, str.split, strip_dot), expected)
    assert len({(f.check, f.split, f.what) for f in listed}) == len(listed)
    return {(f.check, f.split): f for f in listed}


def ids(clips: Sequence[Clip], finding: Finding) -> list[str]:
    return [clip.id for clip in pick(clips, finding.clips).values()]


CLEAN = [
    *(clip(f"a{i}", "train", text) for i, text in enumerate(["ab ba ab", "ba ab ab", "ab ab ba"])),
    clip("d", "dev", "ba ba ab"),
    clip("t", "test", "ba ab ba"),
]


def test_clean_clips_have_notes_on_signers_only() -> None:
    assert {finding.check for finding in found(CLEAN).values()} == {"signers"}


def test_a_planted_leak_is_found_by_white_space_and_by_convention() -> None:
    clips = [
        *CLEAN,
        clip("leak", "test", " ab  ba ab "),
        clip("dotted", "test", "ba ab ab ."),
        clip("l", "dev", "ab ab ba"),
    ]
    by = found(clips)
    assert (by["leak", "test"].severity, ids(clips, by["leak", "test"])) == ("warning", ["leak"])
    assert ids(clips, by["leak in convention", "test"]) == ["dotted"]
    assert ids(clips, by["leak", "dev"]) == ["l"]
    assert ("leak in convention", "dev") not in by


def test_a_planted_duplicate_and_a_source_in_two_splits() -> None:
    clips = [
        *CLEAN,
        clip("again", "train", "ab ba  ab"),
        clip("other id", "dev", "ab ba ba", source="train/a0"),
        clip("part", "test", "bab aba", source="train/a0", start=1.0, end=2.0),
        clip("twin", "test", "bab ab", source="test/t"),
    ]
    by = found(clips)
    assert (by["repeated sentence", "train"].count, ids(clips, by["repeated sentence", "train"])) == (
        1,
        ["a0", "again"],
    )
    assert (by["source", "dev"].severity, ids(clips, by["source", "dev"])) == ("warning", ["other id"])
    assert ids(clips, by["repeated source", "test"]) == ["t", "twin"]
    assert ("source", "test") not in by
    assert by["recording", "test"].severity == "note"
    assert ids(clips, by["recording", "test"]) == ["part"]


def test_clips_that_cannot_be_read_are_errors_by_kind_and_have_no_length() -> None:
    clips = [
        *CLEAN,
        clip("gone", "test", "ab bb", frames=0, problem="missing: features/gone: no such frame folder"),
        clip("torn", "test", "bb ab", frames=0, problem="decode: x.png: truncated"),
    ]
    listed = findings(gather(clips, str.split, strip_dot), ANY)
    errors = {finding.what: ids(clips, finding) for finding in listed if finding.severity == "error"}
    assert errors == {"clips that cannot be read (decode)": ["torn"], "clips that cannot be read (missing)": ["gone"]}
    assert [finding.severity for finding in listed[:2]] == ["error", "error"]
    of = gather(clips, str.split, strip_dot)["test"]
    frames, words = summary(of.column("frames")), summary(of.column("words"))
    assert frames is not None
    assert words is not None
    assert (frames.n, words.n) == (1, 3)
    assert of.readable().tolist() == [4]


@pytest.mark.parametrize(
    ("counts", "errors"),
    [
        ({"train": 3, "dev": 1, "test": 1}, {}),
        ({"train": 4, "dev": 1, "test": None}, {"train": "clips found, expected 4"}),
        ({"train": 3, "dev": 0, "test": 1}, {"dev": "clips found, expected 0"}),
        ({"train": 3, "dev": 1, "test": 1, "more": None}, {"more": "clips found, expected some"}),
        ({"train": 3, "dev": 1}, {"test": "clips in a split that the manifest does not have"}),
    ],
)  # fmt: skip
def test_counts_are_compared_with_the_manifest(counts: dict[str, int | None], errors: dict[str, str]) -> None:
    expected = Expectations(counts=counts, level="word", keep_every=4)
    listed = found(CLEAN, expected).values()
    assert {f.split: f.what for f in listed if f.check == "count"} == errors
    assert all(f.severity == "error" for f in listed if f.check == "count")


def test_lengths_that_a_model_cannot_take() -> None:
    clips = [
        *CLEAN,
        clip("long", "train", "ab " * 9, 161),
        clip("just", "dev", "ba ba", frames=160),
        clip("0", "test", "a b", 0),
    ]
    limit = Limit("a model", positions=20, pools=(2,))  # 41 sampled frames are 21 steps
    by = found(clips, Expectations(counts=ANY.counts, level="word", keep_every=4, limits=[limit], longest=8))
    assert ids(clips, by["too long", "train"]) == ["long"]
    assert ("too long", "dev") not in by
    assert ids(clips, by["long sentence", "train"]) == ["long"]
    assert ids(clips, by["no frames", "test"]) == ["0"]
    assert by["no frames", "test"].severity == "warning"
    assert found(clips, Expectations(counts=ANY.counts, level="word", keep_every=4, frames_known=False))[
        "no frames", "test"
    ].severity == "note"  # fmt: skip


def test_a_sentence_that_is_far_too_quick_is_found() -> None:
    rng = np.random.default_rng(0)
    clips = [clip(f"{i}", "train", "ab " * int(rng.integers(5, 12)), int(rng.integers(60, 120))) for i in range(200)]
    clips.append(clip("quick", "dev", "ab " * 40, 25))
    clips.append(clip("slow", "dev", "ab", 25 * 60))
    ((name, (median, odd)),) = odd_rates(gather(clips, str.split, strip_dot)).items()
    assert (name, odd.tolist()) == ("dev", [200, 201])
    assert 1.5 < median < 3


def test_signers_decide_whether_a_split_is_signer_independent() -> None:
    def kind(*signers: str | None) -> str:
        clips = [*CLEAN[:3], *(clip(f"t{i}", "test", "bb", signer=signer) for i, signer in enumerate(signers))]
        return found(clips)["signers", "test"].what.rsplit(": ", 1)[1]

    assert kind("S1", None) == "signer-dependent"
    assert kind("S1", "S2") == "partly signer-independent"
    assert kind("S2", "S3") == "signer-independent"
    unknown = [clip(c.id, c.split, c.text, signer=None) for c in CLEAN]
    assert found(unknown) == {}


def test_text_that_is_wrong() -> None:
    clips = [clip(f"x{i}", "train", "ab ba über über") for i in range(40)]
    faults = {
        "empty": " ", "control": "ab\u200bba", "composition": "u\u0308ber", "capitals": "Ab ba", "final dot": "ab ba .",
        "spaces": "ab\xa0ba", "once": "ab x",
    }  # fmt: skip
    clips += [clip(name, "dev", text) for name, text in faults.items()]
    by = found(clips)
    for name in ("empty", "control", "composition", "capitals", "final dot", "spaces"):
        assert ids(clips, by[f"text: {name}", "dev"]) == [name], name
    once = by["text: once", None]
    assert {"control", "composition", "capitals", "final dot", "once"} == set(ids(clips, once))
    assert "x U+0078 LATIN SMALL LETTER X" in once.what
    lenient = Expectations(counts=ANY.counts, level="char", keep_every=4, dots_matter=False)
    assert found(clips, lenient)["text: final dot", "dev"].severity == "note"
    assert found(clips, lenient)["text: once", None].severity == "note"


def test_capitals_and_full_stops_are_no_fault_where_all_sentences_have_them() -> None:
    clips = [clip(f"{i}", "train", text) for i, text in enumerate(["Ab ba.", "Ba ba.", "Ab ab?", "Ba ab!"] * 3)]
    assert not {check for check, _ in found(clips)} & {"text: capitals", "text: final dot"}
    clips.append(clip("none", "test", "Ab ba"))
    assert ids(clips, found(clips)["text: final dot", "test"]) == ["none"]


def test_vocabulary_by_hand() -> None:
    clips = [clip("1", "train", "a b b c"), clip("2", "test", "a a x y x b")]
    by = vocabularies(gather(clips, str.split, strip_dot))
    assert (by["train"].size, by["train"].tokens, by["train"].singletons, by["train"].unseen) == (3, 4, 2, None)
    test = by["test"]
    assert (test.size, test.tokens, test.singletons) == (4, 6, 2)
    assert test.unseen == pytest.approx(2 / 4)
    assert test.unseen_tokens == pytest.approx(3 / 6)


texts = st.text(alphabet="aB .\u00fc\u4eac\t\u200b", max_size=8)
any_clips = st.lists(
    st.tuples(st.sampled_from(["test", "dev", "train", "extra"]), texts, st.integers(0, 60), st.booleans()), max_size=30
).map(
    lambda rows: [
        clip(str(i), split, text, 0 if bad else frames, problem="decode: x" if bad else None)
        for i, (split, text, frames, bad) in enumerate(rows)
    ]
)


@given(any_clips, st.integers(1, 5))
def test_columns_agree_with_a_plain_count(clips: list[Clip], every: int) -> None:
    splits = gather(clips, str.split, strip_dot)
    assert Counter(c.split for c in clips) == {name: len(of) for name, of in splits.items()}
    for name, of in splits.items():
        mine = [c for c in clips if c.split == name]
        assert [c.id for c in pick(clips, of.ordinals).values()] == [c.id for c in mine]
        lengths = [len(sampled(c.n_frames, every)) for c in mine if c.n_frames]
        known = summary(of.column("sampled", every))
        assert (known is None) == (not lengths)
        if known is not None:
            assert (known.n, known.min, known.max) == (len(lengths), min(lengths), max(lengths))
            assert known.median == statistics.median(lengths)
            assert known.mean == pytest.approx(statistics.fmean(lengths))
        assert of.vocabulary == Counter(word for c in mine for word in c.text.split())
        times = Counter(" ".join(c.text.split()) for c in mine)
        number, again = repeated(of, "sentence")
        assert number == sum(n > 1 for n in times.values())
        assert [c.id for c in pick(clips, again.tolist()).values()] == [
            c.id for c in mine if times[" ".join(c.text.split())] > 1
        ]


@given(any_clips)
def test_leaks_are_those_of_a_plain_comparison(clips: list[Clip]) -> None:
    splits = gather(clips, str.split, strip_dot)
    for split in splits.keys() - {"train"} if "train" in splits else ():
        plain, spoken = (
            [
                i
                for i, c in enumerate(clips)
                if c.split == split and read(c.text) in {read(o.text) for o in clips if o.split == "train"}
            ]
            for read in (lambda text: " ".join(text.split()), lambda text: strip_dot(" ".join(text.split())))
        )
        assert shared(splits, split, "train", "sentence").tolist() == plain
        assert shared(splits, split, "train", "convention").tolist() == spoken
        assert set(plain) <= set(spoken)
    for finding in findings(splits, ANY):  # whatever the clips are, ordinals are those of clips
        assert all(0 <= ordinal < len(clips) for ordinal in finding.clips)
        assert finding.split is None or all(clips[ordinal].split == finding.split for ordinal in finding.clips)


@pytest.mark.long
def test_memory_is_bounded_by_digests_not_by_sentences() -> None:
    def many() -> Iterator[Clip]:
        for i in range(3_000):
            yield clip(f"{i}", "train", f"{'ab ' * 200}{'ba ' * (i % 97)}", source=f"{'folder/' * 20}{i}")

    tracemalloc.start()
    splits = gather(many(), str.split, strip_dot)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(splits["train"]) == 3_000
    assert held < 3_000 * 200  # a sentence alone has more than 600 bytes
