"""The stages of the pipeline, in order: what each reads, what it does, what it leaves."""

from __future__ import annotations

import dataclasses
import functools

from pipeline.experiment.config import Experiment
from pipeline.experiment.run import Stage, every_split, no_check
from pipeline.experiment.trained_encoder import require_as_trained
from pipeline.stages.run_extract import extract_inputs, run_extract
from pipeline.stages.run_index import index_inputs, run_index
from pipeline.stages.run_joint import with_joint
from pipeline.stages.run_lm import lm_inputs, run_lm
from pipeline.stages.run_pack import with_pack
from pipeline.stages.run_report import report_inputs, run_report
from pipeline.stages.run_score import run_score, score_inputs
from pipeline.stages.run_stage1 import run_stage1, stage1_inputs
from pipeline.stages.run_stage2 import run_stage2, stage2_inputs
from pipeline.stages.run_tokenizer import run_tokenizer, tokenizer_inputs
from pipeline.stages.run_translate import run_translate, translate_inputs
from pipeline.stages.run_trim import run_trim, trim_inputs

FROM_PIXELS = ("pack", "stage1", "extract")


def stages(experiment: Experiment) -> list[Stage]:
    """The stages of an experiment. Trimming is there when the language model comes from elsewhere, a tokenizer and the
    language model's own stage when it is trained here, those that read pixels when the features are made here."""
    train = experiment.train
    own = ("lm",) if train.lm else ()
    # Stage 1 hangs on the pieces of the language model, not on its weights.
    pieces = ("trim",) if train.trims else ("tokenizer",) if train.tokenizes else ()
    learnt = ("index:train", "index:dev")
    listed = [
        Stage("index", "which clips there are, and whether their frames are whole", (), index_inputs, run_index),
        Stage("stage1", "stage 1: encoder and Light-T learn from pixels", (*learnt, *(pieces or own)), stage1_inputs,
              run_stage1),
        Stage("extract", "the frozen encoder sees every clip once",
              (*every_split("index"), *every_split("index:files"), "stage1"), extract_inputs, run_extract,
              require_as_trained),
        Stage("stage2", "stage 2: the language model learns from cached features",
              (*learnt, "extract:train", "extract:dev", *(own or pieces)), stage2_inputs, run_stage2),
        Stage("translate", "the test split, and the sanity rows", ("index:test", "stage1", "extract:test", "stage2"),
              translate_inputs, run_translate),
        Stage("score", "scores, comparisons and slices of every row", (*every_split("index"), "translate"),
              score_inputs, run_score),
        Stage("report", "one HTML page", ("index:test", "extract:test", "stage2", "translate", "score"), report_inputs,
              functools.partial(run_report, stages=()),  # named below, when all are known
              require_as_trained if experiment.data.features is None else no_check),
    ]  # fmt: skip
    if own:
        about = "the language model learns the language from plain text"
        listed.insert(1, Stage("lm", about, ("index:train", *pieces), lm_inputs, run_lm))
    if train.trims:
        about = "the pieces that the text needs, of the language model's tokenizer"
        listed.insert(1, Stage("trim", about, ("index:train",), trim_inputs, run_trim))
    elif train.tokenizes:
        about = "the pieces that the text is made of"
        listed.insert(1, Stage("tokenizer", about, ("index:train",), tokenizer_inputs, run_tokenizer))
    if train.joint is not None and experiment.data.features is None:
        listed = with_joint(listed, own or pieces, train.joint)
    if experiment.pack.enabled:
        listed = with_pack(listed, experiment.pack)
    if experiment.data.features is not None:
        listed = [
            dataclasses.replace(
                stage, needs=tuple(need for need in stage.needs if need.partition(":")[0] not in FROM_PIXELS)
            )
            for stage in listed
            if stage.name not in FROM_PIXELS
        ]
    report = functools.partial(run_report, stages=[stage.name for stage in listed])
    return [*listed[:-1], dataclasses.replace(listed[-1], work=report)]
