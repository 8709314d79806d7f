"""The face for notebooks: the names of the four packages that people call, loaded when they are first used.

Nothing is defined here. ``import fla_slt`` loads neither torch nor transformers; where transformers is used, its
``AutoConfig`` and ``AutoModel`` know the visual encoder and the translator.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    from eval.predictions.prediction_file import Prediction as Prediction
    from eval.predictions.prediction_file import Predictions as Predictions
    from eval.predictions.prediction_file import read_predictions as read_predictions
    from eval.results.scores import Score as Score
    from eval.results.scores import score as score
    from eval.settings import ScoreSettings as ScoreSettings
    from eval.translation.clip_translator import ClipTranslator as ClipTranslator
    from eval.translation.translate_features import Translation as Translation
    from extract.dataset.clip_index import Clip as Clip
    from extract.dataset.clip_index import ClipIndex as ClipIndex
    from extract.encoder.extractor import load_encoder as load_encoder
    from extract.encoder.visual_encoder import VisualEncoder as VisualEncoder
    from extract.errors import ClipError as ClipError
    from extract.errors import InputError as InputError
    from extract.errors import SltError as SltError
    from extract.store.feature_store import FeatureStore as FeatureStore
    from pipeline.experiment.config import load_config as load_config
    from pipeline.experiment.finished import FinishedRun as FinishedRun
    from pipeline.experiment.finished import open_run as open  # noqa: F401
    from train.models.translator import SignTranslator as SignTranslator

    load_translator = ClipTranslator.load

_HOMES = {
    "Clip": "extract.dataset.clip_index",
    "ClipError": "extract.errors",
    "ClipIndex": "extract.dataset.clip_index",
    "ClipTranslator": "eval.translation.clip_translator",
    "FeatureStore": "extract.store.feature_store",
    "FinishedRun": "pipeline.experiment.finished",
    "InputError": "extract.errors",
    "Prediction": "eval.predictions.prediction_file",
    "Predictions": "eval.predictions.prediction_file",
    "Score": "eval.results.scores",
    "ScoreSettings": "eval.settings",
    "SignTranslator": "train.models.translator",
    "SltError": "extract.errors",
    "Translation": "eval.translation.translate_features",
    "VisualEncoder": "extract.encoder.visual_encoder",
    "load_config": "pipeline.experiment.config",
    "load_encoder": "extract.encoder.extractor",
    "load_translator": "eval.translation.clip_translator:ClipTranslator.load",
    "open": "pipeline.experiment.finished:open_run",
    "read_predictions": "eval.predictions.prediction_file",
    "score": "eval.results.scores",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("fla-slt")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, path = _HOMES[name].partition(":")
    found: Any = importlib.import_module(module)
    for part in (path or name).split("."):
        found = getattr(found, part)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__


# As soon as transformers' own tables are there, and at no cost before.
@wrapt.when_imported("transformers.models.auto.configuration_auto")
def _register_configs(_: Any) -> None:
    importlib.import_module("extract.encoder.encoder_config")
    importlib.import_module("train.models.translator_config")


@wrapt.when_imported("transformers.models.auto.modeling_auto")
def _register_encoder(_: Any) -> None:
    importlib.import_module("extract.encoder.visual_encoder")


@wrapt.when_imported("extract.encoder.visual_encoder")  # not before it is whole: its own import may have led here
def _register_translator(_: Any) -> None:
    importlib.import_module("train.models.translator")
