"""Texts from elsewhere: their forms, what is refused and where, and how they are joined by id."""

from __future__ import annotations

import json
import pickle
import re
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.predictions.join_by_id import join, own_references
from eval.predictions.prediction_file import Prediction, write_predictions
from eval.predictions.text_files import Text, read_texts
from extract.errors import InputError

TEXTS = {"clip_a": "regen im süden", "clip_b": "", "clip_c": 'er sagt "kühl", heute'}


def as_jsonl(path: Path) -> None:
    lines = [json.dumps({"name": id, "prediction": text}) for id, text in TEXTS.items()]
    path.write_text("\n".join(lines), encoding="utf-8")


def as_ours(path: Path) -> None:
    write_predictions(path, [Prediction(id, text, text) for id, text in TEXTS.items()])


def as_mapping(path: Path) -> None:
    path.write_text(json.dumps(TEXTS, ensure_ascii=False, indent=1), encoding="utf-8")


def as_list(path: Path) -> None:
    path.write_text(json.dumps([{"id": id, "hyp": text, "ref": "x"} for id, text in TEXTS.items()]), encoding="utf-8")


def as_csv(path: Path) -> None:
    rows = [f'{id},"{text.replace(chr(34), chr(34) * 2)}"' for id, text in TEXTS.items()]
    path.write_text("\r\n".join(["ID,Translation", *rows, ""]), encoding="utf-8")


def as_phoenix(path: Path) -> None:
    rows = [f"{id}|{id}/1/*.png|-1|-1|Signer01|REGEN|{text}" for id, text in TEXTS.items()]
    path.write_text("\n".join(["name|video|start|end|speaker|orth|translation", *rows]), encoding="utf-8")


def as_how2sign(path: Path) -> None:
    rows = [f"v\t{id}\t0.0\t1.0\t{text}" for id, text in TEXTS.items()]
    path.write_text("\n".join(["VIDEO_ID\tSENTENCE_NAME\tSTART\tEND\tSENTENCE", *rows]), encoding="utf-8")


def as_neccam(path: Path) -> None:
    path.write_text("".join(f"{id}|{text}\n" for id, text in TEXTS.items()), encoding="utf-8")


def as_unisign(path: Path) -> None:
    path.write_text("".join(f"sample: {id}, prediction: {text}\n" for id, text in TEXTS.items()), encoding="utf-8")


def as_unisign_stripped(path: Path) -> None:
    lines = [f"sample: {id}, ground-truth: {text}".strip() for id, text in TEXTS.items()]
    path.write_text("\n".join(lines), encoding="utf-8")


def as_tabbed(path: Path) -> None:
    path.write_text("".join(f"{id}\t{text}\n" for id, text in TEXTS.items()), encoding="utf-8")


def as_twostream(path: Path) -> None:
    results: dict[str, dict[str, str]] = defaultdict(dict)
    for id, text in TEXTS.items():
        results[id]["txt_hyp"], results[id]["txt_ref"], results[id]["gls_ref"] = text, text, "REGEN"
    path.write_bytes(pickle.dumps(results))


@pytest.mark.parametrize(
    ("name", "write", "role"),
    [
        ("a.jsonl", as_jsonl, "hypothesis"),
        ("a.jsonl", as_ours, "hypothesis"),
        ("a.jsonl", as_ours, "reference"),
        ("a.json", as_mapping, "reference"),
        ("a.json", as_list, "hypothesis"),
        ("a.csv", as_csv, "hypothesis"),
        ("test.corpus.csv", as_phoenix, "reference"),
        ("how2sign.csv", as_how2sign, "reference"),
        ("test.hyp", as_neccam, "hypothesis"),
        ("test.txt", as_unisign, "hypothesis"),
        ("test.txt", as_unisign_stripped, "reference"),
        ("test.txt", as_tabbed, "reference"),
        ("results.pkl", as_twostream, "hypothesis"),
    ],
)
def test_every_form_gives_the_same_texts(tmp_path: Path, name: str, write: object, role: str) -> None:
    write(tmp_path / name)  # type: ignore[operator]
    found = read_texts(tmp_path / name, role)  # type: ignore[arg-type]
    assert {text.id: text.text for text in found} == TEXTS


def test_lines_get_their_ids_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "ids").write_bytes("\r\n".join(TEXTS).encode())
    (tmp_path / "hyp.txt").write_bytes("".join(f"{text}\r\n" for text in TEXTS.values()).encode())
    found = read_texts(tmp_path / "hyp.txt", "hypothesis", tmp_path / "ids")
    assert {text.id: text.text for text in found} == TEXTS
    (tmp_path / "ids").write_text("clip_a\nclip_b\n")
    with pytest.raises(InputError, match=r"hyp.txt, line 3: expected as many ids .*: 2, found 3"):
        read_texts(tmp_path / "hyp.txt", "hypothesis", tmp_path / "ids")
    (tmp_path / "ids").write_text("clip_a\n\nclip_c\n")
    with pytest.raises(InputError, match="ids, line 2: expected a clip's id, found an empty one"):
        read_texts(tmp_path / "hyp.txt", "hypothesis", tmp_path / "ids")


GOOD = {"csv": b"id,text\na,x\n", "txt": b"a|x\n", "jsonl": b'{"id": "a", "text": "x"}\n', "json": b'{"a": "x",\n'}
GOOD["ours"] = b'{"id": "a", "hypothesis": "x", "reference": "x"}\n'


@pytest.mark.parametrize(
    ("suffix", "bad", "says"),
    [
        ("csv", "b,kühl".encode("latin-1"), "line 3: expected UTF-8, found byte 0xfc at column 4"),
        ("csv", b"b,k\0", "line 3: expected text, found a NUL byte at column 4"),
        ("csv", b"b," + b"x" * 2**20, "line 3: expected a line of at most 100,000 bytes, found 1,048,578"),
        ("csv", b"b,one\rc,two", "line 3: expected one line, found a carriage return at column 6"),
        ("csv", b"b", "line 3: expected 2 fields, found 1"),
        ("csv", b"a,y", "line 3: expected every id once, found 'a' again, first in line 2"),
        ("csv", b",y", "line 3: expected a clip's id, found an empty one"),
        ("csv", b'b,"open', "line 3: expected a row, found unexpected end of data"),
        ("csv", b"\n", "line 3: expected a row, found an empty line"),
        ("txt", b"a|y", "line 2: expected every id once"),
        ("txt", b"b|k\xff", "line 2: expected UTF-8"),
        ("jsonl", b"{", "line 2: expected JSON"),
        ("jsonl", b'{"id": 3, "text": "x"}', "line 2: expected an id that is a text, found 3"),
        ("jsonl", b'{"id": "b", "text": null}', "line 2: expected a text, found None"),
        ("jsonl", b'{"id": "b", "tekst": "x"}', "line 2: expected one of hypothesis, "),
        ("jsonl", b'{"id": "b", "id": "c", "text": "x"}', "'id' stands twice"),
        ("jsonl", b'{"id": "b", "text": "\\ud800"}', "half a surrogate pair"),
        ("jsonl", b'{"id": "b", "text": "\\u0000"}', "line 2: expected a text, found a NUL character"),
        ("ours", b'{"id": "b", "hypothesis": "\\u0000", "reference": "x"}', "line 2: expected a text, found a NUL"),
        ("json", b'"b": }', "line 2: expected JSON"),
        ("json", b'"b": "k\xfc"}', "line 2: expected UTF-8, found byte 0xfc"),
        ("json", b'"b": "\0"}', "line 2: expected JSON, found a NUL byte"),
        ("json", b'"a": "y"}', "'a' stands twice"),
        ("json", b'"b": 1}', r"entry 2 \('b'\): expected a text, found 1"),
        ("json", b'"b": "' + b"x" * 2**20 + b'"}', r"entry 2 \('b'\): expected a text of at most 100,000"),
    ],
)
def test_names_file_and_line_of_what_is_wrong(tmp_path: Path, suffix: str, bad: bytes, says: str) -> None:
    path = tmp_path / f"hyp.{suffix.replace('ours', 'jsonl')}"
    path.write_bytes(GOOD[suffix] + bad + b"\n")
    with pytest.raises(InputError, match=says) as caught:
        read_texts(path, "hypothesis")
    assert caught.value.where.startswith(str(path))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xef\xbb\xbfid,text\n", "line 1: .* found a byte order mark of UTF-8"),
        ("id,text\n".encode("utf-16"), "line 1: .* found a byte order mark of UTF-16"),
        ("id,text\n".encode("utf-16-le"), "line 1: expected text, found a NUL byte at column 2"),
        (b"", "found an empty file"),
        (b"who,what\na,x\n", "line 1: expected one of id, "),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "txt"])
def test_a_file_that_is_no_utf_8_is_refused_at_its_first_line(
    tmp_path: Path, suffix: str, data: bytes, says: str
) -> None:
    path = tmp_path / f"hyp.{suffix}"
    path.write_bytes(data)
    if suffix == "txt" and "one of id" in says:
        assert [text.id for text in read_texts(path, "hypothesis")] == [None, None]
        return
    with pytest.raises(InputError, match=says):
        read_texts(path, "hypothesis")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["a|x", "b|y", "z"], "line 3: expected | after an id, as in most lines, found none"),
        (["a\tx", "b", "c\ty"], "line 2: expected a tab after an id, as in most lines, found none"),
        (
            ["name|video|text", "a|v|x"],
            "line 1: expected id and text, with one | between them, found 2. If it is a table",
        ),
        (["sample: a, prediction: x", "y"], "line 2: expected 'sample: …, prediction: …', as in most lines, found 'y'"),
        (["sample: a, outcome: x", "sample: b, outcome: y"], "line 1: expected one of hypothesis, "),
        (["utt: a, hypo: x", "utt: b, hypo: y", "utt: c, hypo: "], "line 1: expected sentences, found 'utt: '"),
        (['{"text": "x"}', '{"text": "y"}', '{"text": ""}'], 'line 1: expected sentences, found \'{"text": "\''),
        (['"x"', '"y"', '""'], "line 1: expected sentences, found '\"' at the start of every line"),
        (["H-12 x", "H-3 y", "H-4 z"], "line 1: expected sentences, found 'H-' at the start of every line"),
        (["1. x", "2. y", "3. z"], "line 1: expected sentences, found its number at the start of every line"),
        (["[0] x", "[1] y", "[2] z"], "line 1: expected sentences, found its number"),
    ],
)
def test_what_all_lines_share_is_no_sentence(tmp_path: Path, lines: list[str], says: str) -> None:
    path = tmp_path / "hyp.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(says)):
        read_texts(path, "hypothesis")
    assert [text.text for text in read_texts(path, "hypothesis", plain=True)] == lines


@pytest.mark.parametrize(
    "lines",
    [
        ["am montag regnet es"] * 4,  # one sentence for all clips is a system, if a poor one
        ["We're here.", "We're there.", "We're nowhere."],
        ["text: so it is called", "and so on", "and on"],
        ["and now: the weather | in the north", "am montag", "am dienstag", ""],
        ["10 grad", "20 grad", "3 grad"],
    ],
)
def test_sentences_are_sentences(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "hyp.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    assert [(text.id, text.text) for text in read_texts(tmp_path / "hyp.txt", "hypothesis")] == [
        (None, line) for line in lines
    ]


def test_a_text_may_hold_what_stands_between_keys(tmp_path: Path) -> None:
    (tmp_path / "hyp.txt").write_text("sample: a, prediction: one, prediction: two | three\nsample: b, prediction: x\n")
    assert [text.text for text in read_texts(tmp_path / "hyp.txt", "hypothesis")][1] == "x"
    (tmp_path / "one.txt").write_text(
        "sample: a, prediction: x, ground-truth: y\nsample: b, prediction: , ground-truth: z\n"
    )
    assert [(text.text, text.reference) for text in read_texts(tmp_path / "one.txt", "hypothesis")] == [
        ("x", "y"), ("", "z"),
    ]  # fmt: skip


def test_ids_before_the_sentences_of_both_files_are_no_words() -> None:
    names = ["a_1", "clip_2", "c3"]
    sides = [[Text(None, f"{id} {said}", f"{side}, line {n}") for n, id in enumerate(names, start=1)]
             for side, said in (("hyp", "x"), ("ref", "y z"))]  # fmt: skip
    with pytest.raises(InputError, match=r"hyp, line 1: .*3 of 3 lines: 'a_1'. Put a tab or | behind ids.*--plain"):
        join(*sides)
    assert len(join(*sides, plain=True)) == 3
    perfect = [Text(None, f"am {day} regnet es", f"hyp, line {day}") for day in range(3)]
    assert len(join(perfect, perfect)) == 3


def test_a_pickle_with_a_program_in_it_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "results.pkl").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path).encode() + b"/ran'\ntR.")
    with pytest.raises(InputError):
        read_texts(tmp_path / "results.pkl", "hypothesis")
    assert not (tmp_path / "ran").exists()


def texts(name: str, mapping: dict[str, str]) -> list[Text]:
    return [Text(id, text, f"{name}, line {number}") for number, (id, text) in enumerate(mapping.items(), start=1)]


REFERENCES = texts("ref", {f"clip_{letter}": f"reference {letter}" for letter in "abcdef"})


@given(st.permutations([text.id or "" for text in REFERENCES]), st.integers(0, 6))
def test_nothing_is_shifted_and_nothing_is_dropped(order: list[str], kept: int) -> None:
    given_ = texts("hyp", {id: f"hypothesis of {id}" for id in order[:kept]})
    rows = join(given_, REFERENCES, "empty")
    assert [(row.id, row.reference) for row in rows] == [(text.id, text.text) for text in REFERENCES]
    for row in rows:
        assert row.hypothesis == (f"hypothesis of {row.id}" if row.id in order[:kept] else "")


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ({"clip_a": "x"}, "ref, line 2: expected a hypothesis of clip 'clip_b', found none; 5 of 6 clips have none"),
        ({"clip_a": "x", "Clip_B": "y"}, "hyp, line 2: .*'clip_b', found 'Clip_B', which differs by case only"),
        ({"clip_a": "x", "clip_aa": "y"}, "hyp, line 2: .*which they do not have. Did you mean 'clip_a'"),
        ({"dev_1": "x", "dev_2": "y"}, r"hyp, line 1: .*'dev_1'.*\(and 1 more of 2\). The references are of another"),
    ],
)
def test_ids_that_do_not_fit_are_errors(given_: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        join(texts("hyp", given_), REFERENCES)


def test_a_split_that_is_known_is_named() -> None:
    with pytest.raises(InputError, match=r"of split 'dev'.*--split"):
        join(texts("hyp", {"clip_a": "x", "dev_1": "x"}), REFERENCES, elsewhere={"dev_1": "dev"}.get)


def test_ids_with_the_split_before_them_are_understood() -> None:
    """As in the label and output files of neccam/slt and GFSLT-VLP."""
    given_ = texts("hyp", {f"test/{text.id}": text.text for text in REFERENCES[::-1]})
    assert all(row.hypothesis == row.reference for row in join(given_, REFERENCES))
    assert all(row.hypothesis == row.reference for row in join(REFERENCES, given_))
    with pytest.raises(InputError, match="found 'dev_1'"):
        join(texts("hyp", {"test/clip_a": "x", "test/dev_1": "x"}), REFERENCES)


def test_references_beside_the_hypotheses_must_agree() -> None:
    same = Text("clip_a", "x", "hyp, line 1", reference="reference  a")
    assert join([same], REFERENCES[:1])[0].reference == "reference a"
    other = Text("clip_a", "x", "hyp, line 1", reference="reference a .")
    with pytest.raises(InputError, match=r"hyp, line 1: expected the reference 'reference a', found 'reference a .'"):
        join([other], REFERENCES[:1])


def test_lines_meet_lines_of_the_same_number_only() -> None:
    lines = [Text(None, text, f"hyp, line {number}") for number, text in enumerate("abc", start=1)]
    others = [Text(None, text, f"ref, line {number}") for number, text in enumerate("xyz", start=1)]
    rows = join(lines, others)
    assert [(row.id, row.hypothesis, row.reference) for row in rows] == [
        ("line 1", "a", "x"), ("line 2", "b", "y"), ("line 3", "c", "z"),
    ]  # fmt: skip
    with pytest.raises(InputError, match="ref, line 3: expected as many lines as hyp: 2, found 3"):
        join(lines[:2], others)
    with pytest.raises(InputError, match="hyp, line 1: expected an id, as the other file has them, found none"):
        join(lines, REFERENCES)


def test_own_references_are_one_per_clip() -> None:
    rows = own_references([Text("a", "x", "hyp, line 1", "y"), Text("b", "", "hyp, line 2", "z")])
    assert rows == [Prediction("a", "x", "y"), Prediction("b", "", "z")]
    with pytest.raises(InputError, match=r"hyp, line 2: .*, found 'A' and 'a'"):
        own_references([Text("a", "x", "hyp, line 1", "y"), Text("A", "x", "hyp, line 2", "y")])
    with pytest.raises(InputError, match="Name the references with --references"):
        own_references([Text("a", "x", "hyp, line 1")])


def test_a_column_or_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text,Text\na,b,c\n")
    (tmp_path / "a.jsonl").write_text('{"id": "a", "text": "b", "Text": "c"}\n')
    for name in ("a.csv", "a.jsonl"):
        with pytest.raises(InputError, match="found 'text' twice"):
            read_texts(tmp_path / name, "hypothesis")
