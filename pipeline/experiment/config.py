"""Experiment configs: YAML in, one frozen model of every stage's settings out, all errors at once."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError, model_validator

from eval.settings import ReportSettings, ScoreSettings
from extract.atomic_write import write_atomic
from extract.dataset.manifest import DatasetEntry
from extract.errors import InputError, SltError, suggestion
from extract.settings import DataSettings, EncoderSettings, ExtractSettings, FrameSettings, PackSettings, Settings
from train.settings import TrainSettings

OLD_SECTIONS = {"visual": "stage1", "translate": "stage2"}
"""Sections of ``train`` under the names that they had before version 0.2: still taken."""

SHIPPED = Path(__file__).with_name("configs")


class Experiment(Settings):
    """Everything that decides an experiment's result, and how it is run."""

    name: str
    """Of the experiment; its folder is ``runs/<name>`` where no other is given."""
    data: DataSettings
    frames: FrameSettings = FrameSettings()
    pack: PackSettings = PackSettings()
    encoder: EncoderSettings = EncoderSettings()
    extract: ExtractSettings = ExtractSettings()
    train: TrainSettings = TrainSettings()
    score: ScoreSettings = ScoreSettings()
    report: ReportSettings = ReportSettings()

    @model_validator(mode="after")
    def _views_fit(self) -> Experiment:
        self.extract.check_views(self.frames)
        self.pack.check_views(self.frames, self.extract.views)
        return self


class ConfigError(SltError):
    """One or more values of a config are wrong; one line each."""


def load_config(config: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read a config file, or a shipped one by its name (``demo``), and apply ``key=value`` overrides.

    Raises:
        InputError: no such config, not YAML, or an override that is not ``key=value``.
        ConfigError: unknown keys or wrong values, all of them.
    """
    path, raw = read_config(config)
    for override in overrides:
        apply_override(raw, override)
    try:
        return Experiment.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(_lines(path, error))) from error


def read_config(config: str | Path) -> tuple[Path, dict[str, Any]]:
    """A config as it is written, and where: a file, or a shipped one by its name.

    Raises:
        InputError: no such config, or not YAML.
    """
    path = _find(config)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(path, expected="YAML", found=" ".join(str(error).split()), remedy="Mend the file.") from error
    if not isinstance(raw, dict):
        raise InputError(path, expected="a mapping", found=type(raw).__name__, remedy=f"See {SHIPPED}/demo.yaml.")
    _renamed(raw, path)
    return path, raw


def write_config(experiment: Experiment, path: Path) -> None:
    """The resolved config, every default filled in, beside the outputs; one that says the same is left alone."""
    text = yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)


def _find(config: str | Path) -> Path:
    path = Path(config)
    if path.is_file():
        return path
    shipped = {file.stem: file for file in SHIPPED.glob("*.yaml")}
    if str(config) in shipped:
        return shipped[str(config)]
    raise InputError(config, expected="a config file or the name of a shipped one", found="neither",
                     remedy=suggestion(str(config), shipped))  # fmt: skip


def usual_scoring(entry: DatasetEntry) -> dict[str, Any]:
    """What the manifest says of how a dataset is scored: settings of scores and their values."""
    usual: dict[str, Any] = {"level": entry.level, **entry.metrics.model_dump(exclude_none=True)}
    if entry.text.case == "lower":  # the references are; so must the hypotheses be
        usual["lowercase"] = True
    if entry.text.final_dot != "keep":
        usual["final_dot"] = entry.text.final_dot
    return usual


def score_settings(base: Mapping[str, Any], overrides: Sequence[str] = ()) -> ScoreSettings:
    """Settings of scores without an experiment.

    Args:
        base: keys and values under the overrides.
        overrides: as of a config; ``score.`` may be left away.

    Raises:
        InputError: an override that is not ``key=value``.
        ConfigError: unknown keys or wrong values, all of them.
    """
    raw: dict[str, Any] = {"score": dict(base)}
    for override in overrides:
        apply_override(raw, override if override.startswith("score.") else f"score.{override}")
    try:
        return _Scoring.model_validate(raw).score
    except ValidationError as error:
        raise ConfigError("\n".join(_lines("slt score", error))) from error


class _Scoring(Settings):
    """The one section of a config that scores of files have."""

    score: ScoreSettings


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set one value of a config that has been read.

    Raises:
        InputError: not ``key=value``, or the value is not YAML.
    """
    key, equals, value = override.partition("=")
    for old, new in OLD_SECTIONS.items():
        key = re.sub(rf"^train\.{old}(?=\.|$)", f"train.{new}", key)
    if not equals or not key:
        raise InputError(f"--set {override}", expected="key=value", found=repr(override),
                         remedy="For example --set train.stage2.learning_rate=1e-5.")  # fmt: skip
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {override}", expected="a YAML value", found=repr(value),
                         remedy="Quote it, as in a config file.") from error  # fmt: skip
    if isinstance(parsed, str):  # YAML 1.1 takes 1e-5, without a dot, for text
        with contextlib.suppress(ValueError):
            parsed = float(parsed)
    set_value(raw, key.strip(), parsed)


def _renamed(raw: dict[str, Any], path: Path) -> None:
    """Take a config of before version 0.2, with old names of sections in it."""
    train = raw.get("train")
    for old, new in OLD_SECTIONS.items():
        if isinstance(train, dict) and old in train:
            if new in train:
                raise InputError(f"{path}, train.{old}", expected=f"train.{new} alone", found="both",
                                 remedy=f"train.{old} is the old name of train.{new}: keep one of them.")  # fmt: skip
            train[new] = train.pop(old)


def set_value(raw: dict[str, Any], key: str, value: Any) -> None:
    """Put a value into nested mappings at its dotted key."""
    *parents, last = key.split(".")
    for name in parents:
        if not isinstance(raw.get(name), dict):
            raw[name] = {}
        raw = raw[name]
    raw[last] = value


def changed(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """The experiment with other values at some dotted keys; what was not given stays so.

    Raises:
        ConfigError: values that do not fit, all of them.
    """
    raw = experiment.model_dump(mode="json", exclude_unset=True)
    for key, value in changes.items():
        set_value(raw, key, copy.deepcopy(value))  # a later key may lie within it
    try:
        return Experiment.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(_lines(f"config {experiment.name}", error))) from error


def _lines(path: Path | str, error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            hint = suggestion(str(problem["loc"][-1]), _fields(problem["loc"][:-1]))
            yield f"{path}, {where}: expected a known key, found {str(problem['loc'][-1])!r}. {hint}"
        elif problem["type"] == "missing":
            yield f"{path}, {where}: expected a value, found none. Add it."
        elif problem["type"] == "literal_error":
            known = re.findall(r"'([^']*)'", str(problem["ctx"]["expected"]))
            hint = suggestion(str(problem["input"]), known)
            yield f"{path}, {where}: expected {' or '.join(known)}, found {_short(problem['input'])}. {hint}"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            yield f"{path}, {where or 'the whole'}: {message}; found {_short(problem['input'])}."


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _fields(location: Sequence[int | str]) -> list[str]:
    """Names of the fields of the model at a place in the config."""
    model: type[BaseModel] = Experiment
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            continue
        options = [field.annotation, *get_args(field.annotation)]
        nested = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        model = nested[0] if nested else model
    return list(model.model_fields)
