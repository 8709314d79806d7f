"""An experiment that has run, to be looked into: its clips, features, translators, predictions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from extract.errors import InputError
from pipeline.experiment.config import load_config
from pipeline.experiment.run import Run

if TYPE_CHECKING:
    from eval.predictions.prediction_file import Predictions
    from eval.settings import ScoreSettings
    from eval.translation.clip_translator import ClipTranslator
    from extract.encoder.visual_encoder import VisualEncoder
    from extract.store.feature_store import FeatureStore


class FinishedRun(Run):
    """A run in the folder that it left. To look writes nothing, and needs the dataset for its pixels
    only."""

    def __repr__(self) -> str:
        done = sorted(path.stem for path in (self.folder / "state").glob("*.json"))
        return f"<run {self.experiment.name} in {self.folder}: {', '.join(done) or 'nothing'} done>"

    @property
    def scoring(self) -> ScoreSettings:
        """How its predictions are scored, as its config has resolved it."""
        return self.experiment.score

    def features(self, split: str) -> FeatureStore:
        """The cached features of a split.

        Raises:
            InputError: nothing was extracted.
        """
        from extract.store.feature_store import FeatureStore

        return FeatureStore.open(self.store(split))

    def encoder(self) -> VisualEncoder:
        """The frozen visual encoder; it takes videos, folders of frames and arrays.

        Raises:
            InputError: stage 1 has not run.
        """
        from extract.encoder.extractor import load_encoder

        return load_encoder(self.folder / "encoder")

    def translator(self, row: str = "stage2") -> ClipTranslator:
        """``stage2``, ``stage1`` or ``joint``, with the beams and the length that the config has.

        Raises:
            InputError: it was not trained.
        """
        from eval.translation.clip_translator import ClipTranslator

        settings = self.experiment.train.stage2
        return ClipTranslator.load(self.folder / row, beams=settings.beams, max_length=settings.max_length)

    def predictions(self, row: str = "stage2") -> Predictions:
        """What a row of the score table said of the test split.

        Raises:
            InputError: it was not translated.
        """
        from eval.predictions.prediction_file import Predictions, read_predictions

        return Predictions(read_predictions(self.folder / "predictions" / f"{row}.jsonl"), self.scoring)


def open_run(folder: str | os.PathLike[str]) -> FinishedRun:
    """The experiment of a folder that ``slt run`` or ``slt demo`` left.

    Raises:
        InputError: there is none.
        ConfigError: its config is not one of this version.
    """
    config = Path(folder, "config.yaml")
    if not config.is_file():
        raise InputError(folder, expected="the folder of an experiment, with its config.yaml", found="none",
                         remedy="Run `slt run CONFIG --out FOLDER` or `slt demo` first.")  # fmt: skip
    return FinishedRun(load_config(config), Path(folder), beside=Path(folder))
