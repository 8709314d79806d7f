"""Published test-set results of other systems, from ``published_results.yaml`` beside this file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from extract.errors import InputError

Reported = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None
"""A number x100, or ``None`` where the paper reports none."""

RESULTS = Path(__file__).with_name("published_results.yaml")


class PublishedRow(BaseModel):
    """One system's published scores on a dataset's test set, x100."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: Annotated[str, Field(min_length=1)]
    year: Annotated[int, Field(ge=2014, le=2100)]
    gloss_free: bool
    """Trained without gloss annotation."""
    rouge: Reported
    bleu: tuple[Reported, Reported, Reported, Reported]
    """BLEU-1..4."""
    source: str
    rouge_metric: Literal["coco", "twostream", "rouge_score", "rouge_score_stem", "rouge_1.0.1"] | None = None
    """Whose ROUGE-L, where the system's published code tells."""
    bleu_metric: Literal["none", "13a"] | None = None
    """sacreBLEU's tokenizer, or ``none`` for BLEU of the words between spaces, where the published code tells."""
    final_dot: Literal["without", "with"] | None = None
    """Whether both sides ended with a full stop, where the published code or label files tell."""
    note: str | None = None
    """Who computed the figures, where it was not the system's authors."""

    @property
    def newer(self) -> bool:
        """Not in the tables of FLa-LLM."""
        return not self.source.startswith("FLa-LLM")


def published(dataset: str) -> list[PublishedRow]:
    """The rows of a dataset in the file's order; none where the dataset has no published results.

    Raises:
        InputError: the shipped file is damaged.
    """
    return list(_load(RESULTS).get(dataset, ()))


def dots_differ(dataset: str) -> bool:
    """Whether some of its published systems were scored with a final full stop and others without."""
    return {"with", "without"} <= {row.final_dot for row in published(dataset)}


@lru_cache(maxsize=1)
def _load(path: Path) -> dict[str, tuple[PublishedRow, ...]]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(dict[str, tuple[PublishedRow, ...]]).validate_python(data)
    except (OSError, yaml.YAMLError, ValidationError) as error:
        remedy = "Install the package again."
        raise InputError(path, expected="published results", found=str(error), remedy=remedy) from error
