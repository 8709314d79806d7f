"""The published ablations: which rows a table has, how each differs from the config, and what the paper found.

The paper's figures are BLEU-4 on PHOENIX14T's test split (FLa-LLM, sections 4.3 and 4.4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from extract.errors import InputError, suggestion
from pipeline.experiment.config import Experiment
from train.settings import PixelSettings

Measured = Literal["stage1", "stage2", "joint"]

_OF_STAGE_2 = (
    "optimizer", "learning_rate", "adapter_learning_rate", "momentum", "weight_decay", "schedule", "warmup_steps",
    "steps", "epochs", "batch_size", "accumulate", "max_grad_norm", "precision", "evaluate_every", "patience",
    "label_smoothing", "max_length", "adapter",
)  # fmt: skip
"""Settings of stage 2 that its end-to-end forms take over, so that they differ by what is frozen alone."""
_OF_STAGE_1 = set(PixelSettings.model_fields) - {"steps", "epochs", "learning_rate", "momentum", "optimizer"}
"""Settings of stage 1 that the joint baseline takes over: all but its length and rates, which are for SGD."""
OPTIONS_OFF: dict[str, Any] = {
    "warmup": None, "bag_of_words": 0.0, "contrastive": 0.0, "word_dropout": 0.0,
}  # fmt: skip
"""What turns off every option beyond the paper that stage 1 and the joint baseline share."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: a way to train, and which of its translations is scored."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Values of the config by their dotted keys. Without ``train.joint`` a run has no such stage."""
    measured: Measured = "stage2"
    paper: float | None = None
    """BLEU-4 in the paper; None where it has no such row."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """One ablation."""

    name: str
    title: str
    rows: tuple[Row, ...]
    claims: tuple[tuple[str, str], ...]
    """Names of rows: the first is better than the second, as the paper has it, or where it is silent, as is asked."""

    @property
    def file(self) -> str:
        """Name of its files: ``table4``, ``fig4``."""
        return f"table{self.name}" if self.name.isdigit() else self.name

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)


def table(name: str, experiment: Experiment) -> Table:
    """A published ablation on the ground of an experiment.

    Raises:
        InputError: no such table, or one that the experiment cannot have.
    """
    if name not in TABLES:
        raise InputError("--table", expected="a published ablation", found=repr(name),
                         remedy=suggestion(name, TABLES))  # fmt: skip
    if experiment.data.features is not None and name != "lm":
        raise InputError(f"--table {name}", expected="a config that begins with pixels",
                         found=f"data.features = {experiment.data.features}",
                         remedy="Take it out: an encoder is to be trained.")  # fmt: skip
    return TABLES[name](experiment)


def _factorised(experiment: Experiment) -> Table:
    rows = (
        Row("joint end-to-end", {"train.joint": _joint(experiment)}, "joint", 12.90),
        Row("factorised", paper=23.09),
    )
    return Table("4", "Joint end-to-end against factorised learning", rows, (("factorised", "joint end-to-end"),))


def _stages(experiment: Experiment) -> Table:
    rows = (
        Row("stage 2 only", {"train.joint": _unfrozen(experiment, start="new", freeze_backbone=True)}, "joint", 5.62),
        Row("stage 1 only", measured="stage1", paper=17.69),
        Row("both stages", paper=23.09),
    )
    claims = (("both stages", "stage 1 only"), ("stage 1 only", "stage 2 only"))
    return Table("5", "What each stage is good for", rows, claims)


def _sampling(experiment: Experiment) -> Table:
    kept = {1: ("100 %", 22.96), 2: ("50 %", 23.04), 4: ("25 %", 23.09), 8: ("12.5 %", 20.02)}
    rows = tuple(Row(name, {"frames.keep_every": every}, paper=bleu) for every, (name, bleu) in kept.items())
    return Table("6", "Frames that are kept", rows, _chosen("25 %", rows))


def _light_t(experiment: Experiment) -> Table:
    """The paper's sizes where d is its 512; else sizes in the same proportions."""
    width = experiment.train.stage1.light_t.d_model
    shapes = [((1, 4, width // 2, 2 * width), 22.52), ((2, 4, width, 4 * width), 22.36),
              ((3, 8, width, 4 * width), 23.09), ((4, 8, 2 * width, 8 * width), 22.49)]  # fmt: skip
    rows = tuple(
        Row(", ".join(map(str, shape)),
            {f"train.stage1.light_t.{key}": value for key, value in zip(_SHAPE, shape, strict=True)}, paper=bleu)
        for shape, bleu in shapes
    )  # fmt: skip
    return Table("7", "Light-T: layers, heads, d, FFN", rows, _chosen(rows[2].name, rows))


_SHAPE = ("layers", "heads", "d_model", "ffn")


def _length(experiment: Experiment) -> Table:
    """Stage 1 as long as the config says is the paper's 75 epochs; its Figure 4 gives no figures to read off."""
    visual = experiment.train.stage1
    unit, most = ("steps", visual.steps) if visual.steps is not None else ("epochs", visual.epochs)
    assert most is not None
    rows = tuple(
        Row(f"{share:g} {unit}", {f"train.stage1.{unit}": share})
        for share in (round(most * third / 3) for third in (1, 2, 3, 4))
    )
    if most < 3:
        raise InputError("--table fig4", expected=f"at least 3 {unit} of stage 1", found=f"{most:g}",
                         remedy=f"Set train.stage1.{unit}.")  # fmt: skip
    return Table("fig4", "Length of stage 1", rows, _chosen(rows[2].name, rows))


def _levels(experiment: Experiment) -> Table:
    levels = {"frame": ("frame-wise", 20.30), "sign": ("sign-wise", 23.09), "states": ("hidden states", 22.60)}
    rows = tuple(Row(name, {"extract.features": level}, paper=bleu) for level, (name, bleu) in levels.items())
    return Table("8", "What stage 2 reads", rows, _chosen("sign-wise", rows))


def _freezing(experiment: Experiment) -> Table:
    rows = (
        Row("nothing", {"train.joint": _unfrozen(experiment, start="stage1", freeze_backbone=False)}, "joint", 17.86),
        Row("backbone", {"train.joint": _unfrozen(experiment, start="stage1", freeze_backbone=True)}, "joint", 20.40),
        Row("backbone and temporal module", paper=23.09),
    )
    return Table("freeze", "What stage 2 freezes", rows, _chosen(rows[2].name, rows))


def _language_models(experiment: Experiment) -> Table:
    random: dict[str, Any] = {"train.stage2.pretrained": False}
    if experiment.train.lm is not None:  # an offline substitute: there is one of its kind
        rows: tuple[Row, ...] = (Row("pre-trained", paper=23.09), Row("random weights", random, paper=16.19))
        claims: tuple[tuple[str, str], ...] = (("pre-trained", "random weights"),)
    else:
        mbart, mt5 = (
            {"train.stage2.language_model": name} for name in ("facebook/mbart-large-cc25", "google/mt5-base")
        )
        rows = (Row("mBART", mbart, paper=23.09), Row("mT5-base", mt5, paper=19.71),
                Row("mBART, random weights", mbart | random, paper=16.19),
                Row("mT5-base, random weights", mt5 | random, paper=7.39))  # fmt: skip
        claims = (("mBART", "mT5-base"), ("mBART", "mBART, random weights"), ("mT5-base", "mT5-base, random weights"))
    return Table("lm", "Language models", rows, claims)


def _options(experiment: Experiment) -> Table:
    """Beyond the paper: what stage 1 gains from each option by itself, as the config sets it, else as given here."""
    visual = experiment.train.stage1
    given: dict[str, dict[str, Any]] = {
        "bag of words": {"bag_of_words": visual.bag_of_words or 0.05},
        "word dropout": {"word_dropout": visual.word_dropout or 0.2},
        "contrastive": {"contrastive": visual.contrastive or 0.1},
        "encoder warm-up": {"warmup": _plain(visual.warmup)},
        "Light-T warm start": {"warm_start": _plain(visual.warm_start)},
    }
    off: dict[str, Any] = OPTIONS_OFF | {"warm_start": None}
    changed = {"the paper's recipe": off, **{name: off | values for name, values in given.items()}}
    rows = tuple(
        Row(name, {f"train.stage1.{key}": value for key, value in values.items()}) for name, values in changed.items()
    )
    return Table("options", "Options of stage 1 beyond the paper", rows,
                 tuple((row.name, rows[0].name) for row in rows[1:]))  # fmt: skip


TABLES: dict[str, Callable[[Experiment], Table]] = {
    "4": _factorised, "5": _stages, "6": _sampling, "7": _light_t, "8": _levels, "fig4": _length,
    "freeze": _freezing, "lm": _language_models, "options": _options,
}  # fmt: skip


def _joint(experiment: Experiment) -> dict[str, Any]:
    """The section of the config, else stage 1's options with stage 2's rates and the budget of both stages; a new
    encoder, nothing frozen."""
    visual, translate = experiment.train.stage1, experiment.train.stage2
    if experiment.train.joint is not None:
        given = _plain(experiment.train.joint)
    else:
        given = {name: value for name, value in _plain(visual).items() if name in _OF_STAGE_1}
        given |= {name: getattr(translate, name) for name in ("learning_rate", "adapter_learning_rate", "optimizer")}
    return given | {"start": "new", "freeze_backbone": False}


def _unfrozen(experiment: Experiment, **how: Any) -> dict[str, Any]:
    """Stage 2 from pixels: its own recipe, and the config's section ``train.joint`` for the encoder's part."""
    for name in ("batch_tokens", "lora", "augment"):
        if getattr(experiment.train.stage2, name) is not None:
            raise InputError(f"train.stage2.{name}", expected="null: stage 2 from pixels has no such thing",
                             found="a value", remedy=f"--set train.stage2.{name}=null")  # fmt: skip
    translate = experiment.train.stage2.model_dump(mode="json")
    recipe = {name: translate[name] for name in _OF_STAGE_2}
    return _joint(experiment) | {"budget": None, "amount": None, "warp": None} | recipe | OPTIONS_OFF | how


def _plain(settings: Any) -> dict[str, Any]:
    """Settings as they were given; those of a section that is not there: its defaults."""
    return settings.model_dump(mode="json", exclude_unset=True) if settings is not None else {}


def _chosen(name: str, rows: tuple[Row, ...]) -> tuple[tuple[str, str], ...]:
    """The paper's choice is better than each other row."""
    return tuple((name, row.name) for row in rows if row.name != name)
