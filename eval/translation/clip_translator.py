"""One clip to text: from its cached features, or from a video that an encoder sees first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from eval.translation.translate_features import Translation, positions, translate
from extract.encoder.extractor import Extractor, load_encoder
from extract.encoder.feature_provenance import weights_digest
from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import InputError
from extract.settings import ExtractSettings, Level
from extract.store.feature_store import Features
from train.models.tokenizer import load_tokenizer
from train.models.translator import SignTranslator, load_sign_translator


class ClipTranslator:
    """A trained translator at work: features or a video of one clip in, a ``Translation`` out.

    Args:
        model: stage 1, stage 2 or the joint baseline, in evaluation mode.
        tokenizer: of its text.
        encoder: makes features of a video, as those that the model learnt from (where those came from packs with loss,
            of the video's own pixels); None: the model's own, where there is one.
        beams: of the search.
        max_length: pieces of a translation, at most.

    Raises:
        InputError: the encoder is another one than that of the features that the model learnt from.
    """

    def __init__(
        self,
        model: SignTranslator,
        tokenizer: PreTrainedTokenizerBase,
        encoder: VisualEncoder | None = None,
        *,
        beams: int = 5,
        max_length: int = 128,
    ) -> None:
        self.model, self.tokenizer, self.beams, self.max_length = model, tokenizer, beams, max_length
        made = model.config.features or {}
        if encoder and made and "weights" not in made:
            raise InputError("encoder", expected=f"none: it learnt from features of {made.get('name', 'elsewhere')}",
                             found="one", remedy="Give it features that were made in the same way.")  # fmt: skip
        if encoder and made and (found := weights_digest(encoder.state_dict())) != made["weights"]:
            raise InputError("encoder", expected=f"weights {made['weights'][:12]}, as of the features that it learnt",
                             found=found[:12], remedy="Give the encoder of the same experiment.")  # fmt: skip
        self.encoder = model.encoder if model.encoder is not None else encoder
        self._extractor: Extractor | None = None
        if encoder and made:
            chosen = {key: made[key] for key in ("features", "dtype", "compute")}
            self._extractor = Extractor(encoder, ExtractSettings(**chosen, backend="torch"))

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], encoder: str | os.PathLike[str] | None = None, **options: int
    ) -> ClipTranslator:
        """The translator of a trained directory, on the GPU where there is one.

        Args:
            folder: ``stage2/``, ``stage1/`` or ``joint/`` of an experiment.
            encoder: directory of the visual encoder, which stage 2 needs for videos; None: ``encoder/`` beside the
                folder, where there is one.
            options: ``beams``, ``max_length``.

        Raises:
            InputError: no translator or encoder there, or they do not belong together.
        """
        model = load_sign_translator(Path(folder))
        made = model.config.features or {}
        beside = Path(folder).absolute().parent / "encoder"
        place = encoder or (beside if model.encoder is None and "weights" in made and beside.is_dir() else None)
        level: Level = made.get("features", "sign")
        chosen = load_encoder(place, level) if place else None
        return cls(model, load_tokenizer(Path(folder)), chosen, **options)

    def __repr__(self) -> str:
        size = self.model.num_parameters() / 1e6
        takes = "videos or features" if self.encoder is not None else "features"
        return f"<translator: {size:.1f} M parameters, takes {takes} of width {self.model.feature_width}>"

    def __call__(self, clip: str | os.PathLike[str] | NDArray[Any] | Tensor) -> Translation:
        """
        Args:
            clip: (steps, C) features of one clip; or the clip itself, a video file, a folder of frames or a
                (T, H, W, 3) uint8 array of RGB, prepared as the encoder was trained.

        Raises:
            InputError: features of another width, more steps than the language model has positions, an array that is
                neither, or a video without an encoder.
            ClipError: the video cannot be decoded.
        """
        if isinstance(clip, Tensor):
            clip = (clip.float() if clip.is_floating_point() else clip).detach().cpu().numpy()
        features = clip if isinstance(clip, np.ndarray) and clip.ndim == 2 else self._encoded(clip)
        if not np.issubdtype(features.dtype, np.floating) or features.shape[1] != self.model.feature_width:
            raise InputError("features", expected=f"(steps, {self.model.feature_width}) float",
                             found=f"{features.shape} {features.dtype}",
                             remedy="Give those of the encoder that it learnt with.")  # fmt: skip
        if not 0 < len(features) <= positions(self.model):
            raise InputError("features", expected=f"1 to {positions(self.model):.0f} steps", found=str(len(features)),
                             remedy="Cut the video into sentences.")  # fmt: skip
        one = Features(["clip"], features, np.array([0, len(features)]))
        (found,) = translate(self.model, self.tokenizer, one, beams=self.beams, max_length=self.max_length)
        return found

    def _encoded(self, clip: str | os.PathLike[str] | NDArray[Any]) -> NDArray[Any]:
        if self.encoder is None:
            raise InputError("translator", expected="an encoder, to see videos", found="none",
                             remedy="Load it with encoder=FOLDER, or give it (steps, C) features.")  # fmt: skip
        if self._extractor is None:
            return self.encoder.encode(clip)
        return self._extractor.clip(self._extractor.encoder.prepare(clip))
