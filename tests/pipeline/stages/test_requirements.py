"""What a run lacks is said before its first stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import M2M100Config, MBart50Tokenizer, MBartConfig, MBartForConditionalGeneration

from extract.errors import InputError
from pipeline.experiment.config import Experiment
from pipeline.experiment.run import Run
from pipeline.stages.requirements import lacking
from pipeline.stages.stage_list import stages
from train.models.language_model import build_mbart, load_language_config
from train.models.tokenizer import train_tokenizer
from train.settings import TransformerSettings

TINY = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16],
        "depths": [1, 1, 1, 1]}  # fmt: skip


def run_of(folder: Path, **sections: Any) -> Run:
    raw: dict[str, Any] = {
        "name": "x", "data": {"dataset": "builtin", "root": str(folder)}, "frames": {"resize": 36, "crop": 32},
        "encoder": {"backbone": TINY, "width": 16}, "train": {"lm": {}, "stage2": {"language_model": "lm"}},
    }  # fmt: skip
    return Run(Experiment.model_validate({**raw, **sections}), folder / "out")


def told(run: Run, fetch: bool = False) -> list[str]:
    return lacking(run, stages(run.experiment), fetch)


def test_nothing_is_lacking_where_all_is_there(tmp_path: Path) -> None:
    assert told(run_of(tmp_path)) == []


def test_all_that_is_lacking_is_told_at_once(tmp_path: Path) -> None:
    run = run_of(
        tmp_path,
        data={"dataset": "builtin", "root": str(tmp_path / "nowhere")},
        encoder={"backbone": "nobody/has-this", "width": 16},
        train={
            "stage1": {"report_to": ["nothing"], "warm_start": {"text": str(tmp_path / "none.txt")}},
            "stage2": {"language_model": str(tmp_path / "absent")},
        },
        score={"more": ["bleurt"]},
    )
    found = "\n".join(told(run))
    for each in ("root of builtin: ", "encoder.backbone = nobody/has-this: expected its files", "found 'nothing'",
                 "warm_start.text = ", "train.stage2.language_model = ", "bleurt"):  # fmt: skip
        assert each in found
    assert len(found.splitlines()) == 6
    assert lacking(run, stages(run.experiment), False, start="score") == [
        line for line in found.splitlines() if "bleurt" in line
    ]


def test_a_language_model_of_another_family_is_refused_by_name(tmp_path: Path) -> None:
    M2M100Config(d_model=16, encoder_layers=1, decoder_layers=1).save_pretrained(tmp_path / "nllb")
    with pytest.raises(InputError, match=r"mBART, T5 or mT5, found model_type m2m_100"):
        load_language_config(tmp_path / "nllb")
    (tmp_path / "nllb" / "model.safetensors").write_bytes(b"weights")
    run = run_of(tmp_path, train={"stage2": {"language_model": str(tmp_path / "nllb")}})
    assert [line for line in told(run) if "m2m_100" in line]


def test_mbart_50_is_refused_before_its_vocabulary_is_trimmed(tmp_path: Path) -> None:
    tokenizer = MBart50Tokenizer(src_lang="de_DE", tgt_lang="de_DE")
    config = MBartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
    )  # fmt: skip
    MBartForConditionalGeneration(config).save_pretrained(tmp_path / "fifty")
    tokenizer.save_pretrained(tmp_path / "fifty")
    (line,) = told(run_of(tmp_path, train={"stage2": {"language_model": str(tmp_path / "fifty")}}))
    assert "mBART-cc25's tokenizer" in line
    assert "found MBart50Tokenizer" in line


def test_a_folder_without_weights_is_told_before_stage_1(tmp_path: Path) -> None:
    size = TransformerSettings(layers=1, heads=2, d_model=16, ffn=32, positions=40)
    tokenizer, whole = train_tokenizer(["es regnet", "es schneit"], 60, "de_DE"), tmp_path / "whole"
    build_mbart(size, tokenizer, "de_DE").save_pretrained(whole)
    tokenizer.save_pretrained(whole)
    named = {"stage2": {"language_model": str(tmp_path / "cut")}}
    (tmp_path / "cut").mkdir()
    for file in whole.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / "cut" / file.name).write_bytes(file.read_bytes())
    (line,) = told(run_of(tmp_path, train=named), fetch=True)
    assert "no weights in it" in line
    (tmp_path / "cut" / "model.safetensors").write_bytes((whole / "model.safetensors").read_bytes())
    assert told(run_of(tmp_path, train=named)) == []
