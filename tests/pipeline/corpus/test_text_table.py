"""Sentences of a table, drawn: every gloss a sign of its own, every clip as long as it is to be."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from extract.dataset.adapters import dataset_adapter
from extract.dataset.manifest import locate
from extract.errors import InputError
from extract.settings import DataSettings
from pipeline.corpus.layout import write_corpus
from pipeline.corpus.lexicon import vocabulary_forms
from pipeline.corpus.text_table import SIGNERS, read_text_table

ROOT = Path(__file__).parents[3]
HEAD = "id\tsplit\tframes\tgloss\ttext\n"
ROWS = (
    "a-1\ttrain\t17\tREGEN loc-NORD\tim norden regnet es\n"
    "a-2\ttrain\t90\tIX\tdort\n"
    'b\tdev\t16\tMORGEN SONNE "REGEN+PL" NORD SONNE\tmorgen scheint " die sonne\n'
    "c\ttest\t40\t\tguten abend\n"
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "texts.tsv"
    path.write_text(HEAD + ROWS, encoding="utf-8")
    return path


def test_a_table_is_drawn_as_a_release(table: Path, tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "whole", "tiny", texts=table, workers=1)
    adapter = dataset_adapter(locate(DataSettings(dataset="phoenix14t", root=str(root))))
    said = {clip.id: clip for split in ("train", "dev", "test") for clip in adapter.clips(split)}
    assert {id: clip.text for id, clip in said.items()} == {
        "a-1": "im norden regnet es", "a-2": "dort", "b": 'morgen scheint " die sonne', "c": "guten abend",
    }  # fmt: skip
    frames = {id: sorted((root / clip.source).glob("*.png")) for id, clip in said.items()}
    assert {id: len(files) for id, files in frames.items()} == {"a-1": 17, "a-2": 90, "b": 16, "c": 40}
    assert (tmp_path / "whole/text.de.txt").read_text() == "im norden regnet es\ndort\n"
    every = write_corpus(tmp_path / "every", "tiny", texts=table, workers=1, every=4)
    for id, files in frames.items():
        fewer = sorted((every / said[id].source).glob("*.png"))
        assert len(fewer) == -(-len(files) // 4)
        for one, other in zip(files[::4], fewer, strict=True):
            np.testing.assert_array_equal(cv2.imread(str(one)), cv2.imread(str(other)))


def test_another_table_is_drawn_anew(table: Path, tmp_path: Path) -> None:
    drawn: list[int] = []

    def write() -> None:
        write_corpus(tmp_path / "corpus", "tiny", texts=table, workers=1, on_clip=lambda done, _: drawn.append(done))

    write()
    write()
    assert drawn == [1, 2, 3, 4]
    table.write_text(HEAD + ROWS + "d\ttest\t20\tIX\tdort\n", encoding="utf-8")
    write()
    assert len(drawn) == 9


def test_a_gloss_keeps_its_form() -> None:
    names = [f"GLOSS{number}" for number in range(1200)]
    forms = vocabulary_forms(names, 0)
    assert list(forms) == sorted(names)
    pairs = itertools.combinations(forms.values(), 2)
    assert min(a.difference(b) + (a.mouth != b.mouth) for a, b in pairs) >= 2
    fewer = vocabulary_forms(names[::2], 0)
    assert sum(forms[name] != fewer[name] for name in fewer) <= 20
    assert vocabulary_forms(reversed(names), 0) == forms
    assert vocabulary_forms(names, 1) != forms


def test_signers_are_drawn_by_id(tmp_path: Path) -> None:
    path = tmp_path / "many.tsv"
    path.write_text(HEAD + "".join(f"n{number}\ttrain\t20\tA\ttext\n" for number in range(300)))
    said = read_text_table(path, 0)
    assert {each.signer for each in said} == set(range(SIGNERS))
    path.write_text(HEAD + "n7\ttrain\t20\tA\ttext\n")
    assert read_text_table(path, 0) == [said[7]]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("../x\ttrain\t9\tA\tb\n", "row 6: expected an id of letters, digits, . _ + and -, found '../x'"),
        ("a-1\ttrain\t9\tA\tb\n", "row 6: expected each id once, found a-1 again"),
        ("d\tval\t9\tA\tb\n", "expected the split train, dev or test, found 'val'"),
        ("d\ttest\tmany\tA\tb\n", "expected 1 to 5000 frames, found 'many'"),
        ("d\ttest\t0\tA\tb\n", "expected 1 to 5000 frames, found '0'"),
        ("d\ttest\t9\tA\t \n", "expected a sentence, without |, found ' '"),
        ("d\ttest\t9\tA|B\tb\n", "expected a sentence, without |"),
        ("d\ttest\n", "expected 1 to 5000 frames, found ''"),
    ],
)
def test_rows_that_cannot_be_drawn(table: Path, tmp_path: Path, row: str, says: str) -> None:
    table.write_text(HEAD + ROWS + row, encoding="utf-8")
    with pytest.raises(InputError) as raised:
        write_corpus(tmp_path / "corpus", "tiny", texts=table)
    assert says in str(raised.value)
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize("content", [b"", b"id\ttext\na\tb\n", b"\xff\xfe", None])
def test_files_that_are_no_table(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "texts.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="columns id, split, frames, gloss, text"):
        read_text_table(path, 0)


def test_the_command(table: Path, tmp_path: Path) -> None:
    def slt(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline", "corpus", "out", "--preset", "tiny", "--texts", table.name, *words]
        return subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
                              text=True, check=False)  # fmt: skip

    done = slt("--every", "2")
    assert done.returncode == 0, done.stderr
    root = tmp_path / "out/PHOENIX-2014-T"
    assert done.stdout == (
        f"{root}\nnext: slt run demo --set frames.keep_every=2 --set data.root={root} "
        f"--set train.lm.text={tmp_path}/out/text.de.txt\n"
    )
    assert len(list(root.glob("features/*/dev/b/*.png"))) == 8
    refused = slt("--layout", "how2sign")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--texts: expected --layout phoenix14t, found how2sign" in refused.stderr
