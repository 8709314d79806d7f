"""Configs: shipped ones load, wrong ones are refused with everything that is wrong."""

import re
from pathlib import Path

import pytest
import yaml

from extract.errors import InputError
from pipeline.experiment.config import SHIPPED, ConfigError, load_config, write_config
from pipeline.experiment.freshness import deciding
from train.settings import WarpSettings


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_every_shipped_config_loads_and_survives_writing(name: str, tmp_path: Path) -> None:
    experiment = load_config(name)
    write_config(experiment, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == experiment


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*_*.yaml") if path.stem != "csl_daily"))
def test_a_recipe_that_is_not_the_papers_says_of_each_value_whose_it_is(name: str) -> None:
    """Paper, peer (which) or ours (why), beside the value or where a list begins."""
    lines = (SHIPPED / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    unmarked = [
        line
        for line in lines
        if re.search(r"^ +[a-z0-9_]+: +[^ #]", line)
        and not re.search(r"dataset: |level: |# .*(\[P\]|peer: \w|ours: \w|scores)", line)
    ]
    assert unmarked == []
    assert load_config(name).data.dataset in name


def test_paper_recipe_has_the_papers_values() -> None:
    experiment = load_config("phoenix14t")
    assert experiment.frames.keep_every == 4
    assert experiment.frames.crop == 224
    assert experiment.encoder.backbone == "microsoft/resnet-18"
    visual, translate = experiment.train.stage1, experiment.train.stage2
    assert (visual.optimizer, visual.learning_rate, visual.momentum, visual.epochs) == ("sgd", 1e-2, 0.9, 75)
    assert (visual.label_smoothing, visual.batch_size, visual.accumulate) == (0.2, 8, 1)
    assert (visual.light_t.layers, visual.light_t.heads, visual.light_t.d_model, visual.light_t.ffn) == (
        3,
        8,
        512,
        2048,
    )
    assert (visual.warmup, visual.bag_of_words, visual.warm_start) == (None, 0, None)
    assert (visual.word_dropout, visual.contrastive, visual.batch_norm) == (0, 0, "batch")
    assert visual.warp == WarpSettings(probability=0.5, rotation=30, scale=0.2, translation=10)
    assert translate.language_model == "facebook/mbart-large-cc25"
    assert (translate.trim, translate.pretrained) == (True, True)
    assert (translate.learning_rate, translate.adapter_learning_rate) == (1e-5, 1e-3)
    assert (translate.batch_size, translate.label_smoothing, translate.beams) == (16, 0.2, 5)


def write(path: Path, **changes: object) -> Path:
    path.write_text(yaml.safe_dump({"name": "x", "data": {"dataset": "builtin"}} | changes))
    return path


def test_all_errors_at_once_with_suggestions(tmp_path: Path) -> None:
    bad = write(
        tmp_path / "bad.yaml",
        frames={"keep_evry": 2, "crop": 300},
        train={"stage2": {"learning_rat": 1, "beams": 0}},
        encodr={},
    )
    with pytest.raises(ConfigError) as raised:
        load_config(bad)
    message = str(raised.value)
    assert "frames.keep_evry: expected a known key, found 'keep_evry'. Did you mean 'keep_every'?" in message
    assert "train.stage2.learning_rat: expected a known key" in message
    assert "Did you mean 'learning_rate'" in message
    assert "train.stage2.beams: Input should be greater than or equal to 1; found 0." in message
    assert "encodr: expected a known key, found 'encodr'. Did you mean 'encoder'?" in message
    assert len(message.splitlines()) == 4


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"frames": {"crop": 300}}, "crop (300) is larger than resize (256)"),
        ({"encoder": {"temporal": [{"kernel": 4}]}}, "kernel must be odd"),
        ({"train": {"stage1": {"light_t": {"d_model": 30}}}}, "d_model (30) is not a multiple of heads (8)"),
        ({"train": {"stage1": {"steps": 5, "epochs": 2}}}, "give one of steps and epochs"),
        (
            {"train": {"stage1": {"gradient_checkpointing": True, "frame_batch": 9}}},
            "compute the backbone again: give one",
        ),
        ({"train": {"joint": {"steps": 5, "budget": "clips"}}}, "give one of steps, epochs and budget"),
        ({"train": {"joint": {"amount": 5}}}, "amount is that of a budget"),
        ({"encoder": {"backbone_weights": "x.pth"}}, "backbone_weights fill a backbone that is given by its fields"),
        ({"train": {"stage2": {"language_model": "lm"}}}, "exactly when there is a section lm"),
        ({"data": {}}, "data.dataset: expected a value"),
    ],
)
def test_values_that_do_not_fit_together(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(write(tmp_path / "bad.yaml", **changes))
    assert says in str(raised.value)


def test_what_is_given_wins_over_a_default(tmp_path: Path) -> None:
    """``steps`` beside a hidden default of ``epochs`` was refused, in every stage that has such a default."""
    sections = {
        "stage1": {"steps": 60, "warmup": {"epochs": 2}, "warm_start": {"steps": 3}},
        "stage2": {"steps": 9},
        "joint": {"epochs": 1},
    }
    train = load_config(write(tmp_path / "a.yaml", train=sections)).train
    stage1, joint = train.stage1, train.joint
    assert stage1.warmup is not None
    assert stage1.warm_start is not None
    assert joint is not None
    lengths = [(one.steps, one.epochs) for one in (stage1, stage1.warmup, stage1.warm_start, train.stage2, joint)]
    assert lengths == [(60, None), (None, 2), (3, None), (9, None), (None, 1)]
    again = load_config(write(tmp_path / "b.yaml", train=train.model_dump(mode="json"))).train
    assert again == train


def test_overrides(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml")
    experiment = load_config(path, ["train.stage2.learning_rate=2e-5", "data.root=/data", "extract.workers=3"])
    assert experiment.train.stage2.learning_rate == 2e-5
    assert experiment.data.root == "/data"
    assert experiment.extract.workers == 3
    with pytest.raises(InputError, match="expected key=value"):
        load_config(path, ["train.stage2.learning_rate"])
    with pytest.raises(ConfigError, match="learning_rat"):
        load_config(path, ["train.stage2.learning_rat=1"])


@pytest.mark.parametrize(
    ("content", "says"), [("[1, 2]", "expected a mapping"), ("a: [", "expected YAML"), ("", "expected a mapping")]
)
def test_files_that_are_no_config(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(InputError, match=says):
        load_config(tmp_path / "a.yaml")


def test_an_unknown_name_is_suggested() -> None:
    with pytest.raises(InputError, match="Did you mean 'phoenix14t'"):
        load_config("phoenix14")


def test_how_a_stage_runs_does_not_decide_its_result() -> None:
    experiment = load_config("demo")
    other = load_config("demo", ["extract.workers=7", "extract.block_frames=9", "train.stage1.workers=3"])
    assert deciding(experiment.extract) == deciding(other.extract)
    assert deciding(experiment.train.stage1) == deciding(other.train.stage1)
    assert deciding(load_config("demo", ["extract.dtype=float32"]).extract) != deciding(experiment.extract)
