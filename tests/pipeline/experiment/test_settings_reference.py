"""The list of all keys: complete, told in words, and the same in docs/settings.md."""

from pathlib import Path

import yaml

from pipeline.experiment.config import SHIPPED, load_config
from pipeline.experiment.settings_reference import Key, as_yaml, commented, keys, page

ROOT = Path(__file__).parents[3]


def flat(values: object, above: str = "") -> set[str]:
    """Dotted keys of a resolved config; elements of lists have those of their kind."""
    if isinstance(values, dict) and above not in ("data.options.", "encoder.backbone."):
        return {key for name, value in values.items() for key in flat(value, f"{above}{name}.")}
    return {above.removesuffix(".")}


def test_every_key_of_every_shipped_config_is_listed() -> None:
    listed = {key.name for key in keys()}
    for path in SHIPPED.glob("*.yaml"):
        assert flat(load_config(path).model_dump(mode="json")) - listed == set(), path.name


def test_every_key_says_what_it_means() -> None:
    assert [key.name for key in keys() if not key.meaning or not key.type] == []


def test_defaults_are_those_of_the_section_that_has_them() -> None:
    found = {key.name: key for key in keys("train")}
    assert found["train.stage1.optimizer"].default == "sgd"
    assert found["train.stage2.optimizer"].default == "adamw"
    assert found["train.stage1.light_t.d_model"].default == "512"
    assert found["train.lm.model.d_model"].default == "256"
    assert yaml.safe_load(found["train.stage2.learning_rate"].default) == 1e-5


def test_a_key_in_words() -> None:
    assert keys("pack.block_frames") == [
        Key("pack.block_frames", "integer ≥ 1", "2048", "how it runs",
            "Most frames of a block, about: one Dask task, one HDF5 file, one commit; some 130 kB each at 256 x 256.")
    ]  # fmt: skip
    assert [key.type for key in keys("frames.crop_rows")] == ["list of 2 or null"]
    assert [(key.name, key.mark) for key in keys("extract.cluster.type")] == [("extract.cluster.type", "how it runs")]
    assert [key.mark for key in keys("train.lm.text")] == ["by contents"]
    assert [key.name for key in keys("encoder.temporal")][1:] == [
        "encoder.temporal[].kernel",
        "encoder.temporal[].pool",
    ]
    assert keys("frames.cro") == []


def test_the_page_is_made_from_the_models() -> None:
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == page()


def test_a_resolved_config_is_one(tmp_path: Path) -> None:
    for shipped in SHIPPED.glob("*.yaml"):
        experiment = load_config(shipped)
        path = tmp_path / "config.yaml"
        path.write_text("\n".join(commented(experiment, {})), encoding="utf-8")
        assert load_config(path) == experiment


def test_values_on_one_line() -> None:
    for value in (1e-05, None, True, "x: y", [1, "a"], {"a": [1, {"b": "ü"}]}, "x" * 300, "no", "1"):
        line = as_yaml(value)
        assert "\n" not in line
        assert yaml.safe_load(line) == value
