"""Settings of the scores. ``[F]`` = as published translation systems do it, ``[?]`` = our choice."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from extract.dataset.text_convention import FinalDot
from extract.settings import Settings

RougeFlavour = Literal["coco", "twostream", "rouge_score", "rouge_score_stem", "rouge_1.0.1"]
"""Whose ROUGE-L: see ``eval/metrics/rouge_flavours.py``."""

Further = Literal["coco", "twostream", "rouge_score", "rouge_score_stem", "rouge_1.0.1", "bleurt", "comet"]
"""What can be computed beside the default metrics."""


class ScoreSettings(Settings):
    """Which text conventions and which flavour of each metric. All of it is part of a score's signature."""

    level: Literal["word", "char"] = "word"
    """What a token is: ``word`` = what white space separates (PHOENIX14T, How2Sign) [F], ``char`` = each code
    point that is not white space (CSL-Daily) [F]. ROUGE-L always counts these tokens."""
    tokenizer: Literal["none", "13a", "zh", "char"] | None = None
    """sacreBLEU's tokenizer for BLEU. ``None`` means ``none``: BLEU counts the tokens of ``level``. At
    character level the text is then split into characters first, and BLEU is computed on them with ``none``.
    Any other value gives sacreBLEU the unsplit text: ``13a`` for How2Sign [F], ``zh`` for Chinese with its
    Latin words kept whole."""
    smoothing: Literal["none", "exp"] = "none"
    """What an n-gram order without a match does: ``none`` makes BLEU 0, as in neccam/slt and its successors
    (sacreBLEU 1.4.2 ``floor`` with value 0) [F]; ``exp`` is sacreBLEU's default, as in GFSLT-VLP. Both agree
    on any split with one matching 4-gram. They part on tiny splits and on the shuffled control, where ``exp``
    would flatter."""
    lowercase: bool = False
    """Lower-case both sides [?]. PHOENIX14T is lower case already; How2Sign is scored cased [F]."""
    final_dot: FinalDot = "keep"
    """Keep, strip or add the final full stop, on both sides [?]. Published PHOENIX14T label files differ in it: the
    release has none, and ``add`` is what most systems were scored with. A dot that every sentence has is a free match
    worth about one point of BLEU-4 and several of ROUGE."""
    unicode: Literal["keep", "NFC", "NFKC"] = "keep"
    """Unicode normal form of both sides [?]. Published systems keep what is written, so that a ``ü`` with a combining
    mark does not match the composed letter. ``NFKC`` also makes full-width digits and Latin letters plain ones."""
    rouge: RougeFlavour = "coco"
    """Whose ROUGE-L stands in the column ROUGE: ``coco`` = LCS of the level's tokens, ``beta``, mean over sentences,
    as neccam/slt, nlg-eval and their successors [F]. The others compute other numbers under the same name."""
    beta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.2
    """Weight of recall in ROUGE-L of flavour ``coco`` [F]."""
    more: tuple[Further, ...] = ()
    """Further metrics: other flavours of ROUGE-L, BLEURT, COMET."""
    bootstrap: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """Resamples behind every interval, as sacreBLEU [F]; 0: no intervals."""
    test: Literal["bootstrap", "randomisation"] = "bootstrap"
    """Behind p-values: paired bootstrap resampling (Koehn 2004) or paired approximate randomisation (Riezler and
    Maxwell 2005), both sacreBLEU's own [?]."""


class ReportSettings(Settings):
    """What ``report.html`` shows of the clips, and how large it may become."""

    clips: Annotated[int, Field(ge=0)] = 12
    """Clips of each kind, best, worst and random, that are shown with their frames and cross-attention."""
    sentences: Annotated[int, Field(ge=0)] = 3000
    """Most clips whose sentences can be searched, those included."""
    frames: Annotated[int, Field(ge=1, le=120)] = 64
    """Most frames of a clip, evenly spaced where it has more."""
    side: Annotated[int, Field(ge=16, le=128)] = 112
    """Pixels of a frame's side; smaller frames keep their size."""
    quality: Annotated[int, Field(ge=1, le=100)] = 70
    """Of the frames, which are WebP."""
    megabytes: Annotated[float, Field(gt=0)] = 10
    """Most of the file (MB of a million bytes): frames, then sentences are left out, the last first."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Draws the random clips."""
