"""Recipes of stage 2 on real sentences, behind features that stand for perfect sight.

    python benchmarks/gloss_oracle.py TABLE                             # writes docs/benchmarks/gloss_oracle.json
    python benchmarks/gloss_oracle.py TABLE --seeds 0 1 --arm slow train.stage2.learning_rate=1e-4

TABLE is tab-separated, with the columns id, split (train, dev, test), frames, gloss and text. A gloss is a random
vector that depends on its name alone. The glosses of a clip share its sampled frames evenly, and noise lies over them,
once and for all. The rest is the product's own: tokenizer and language model of ``train.lm``, which starts from random
weights and is warmed up by denoising the train sentences; then stage 2, beam search on the test split, and the
dataset's scores. Settings are those of benchmarks/stage2/gloss_oracle.yaml, with ``--set`` as in ``slt``; ``--arm``
names a contender with other settings, which is compared with the plain one, seed by seed, by the project's paired test.
What is written holds no sentence of the table.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose extract.py would hide the package

import argparse
import json
import os
import platform
import shlex
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers

from benchmarks.page import FOLDER, write_report
from benchmarks.stage2.adapter_watch import AdapterWatch
from benchmarks.stage2.perfect_sight import LANGUAGE, Row, read_table, write_stores
from eval.predictions.prediction_file import Prediction
from eval.results.comparison import compare
from eval.results.scores import count
from eval.settings import ScoreSettings
from eval.translation.translate_features import translate_split
from extract.atomic_write import replacing
from extract.dataset.clip_index import SPLITS
from extract.fingerprint import digest
from pipeline.experiment.config import Experiment, load_config
from pipeline.experiment.torch_session import quiet_transformers
from train.models.language_model import build_mbart, load_language_model
from train.models.tokenizer import train_tokenizer
from train.recipes.denoise import pretrain
from train.recipes.stage2 import train_stage2

CONFIG = Path(__file__).with_name("stage2") / "gloss_oracle.yaml"
SMOKE = (
    "train.lm.model={layers: 1, heads: 2, d_model: 16, ffn: 32}", "train.lm.vocabulary=120", "train.lm.precision=fp32",
    "train.lm.epochs=1", "train.stage2.epochs=1", "train.stage2.precision=fp32", "train.stage2.evaluate_every=1",
    "train.stage2.max_length=8", "train.threads=1",
)  # fmt: skip
"""Of ``--smoke``: the same code, with nothing learnt."""


class Oracle:
    """The table's clips and features, and what the arms share."""

    def __init__(self, rows: Sequence[Row], experiment: Experiment, clips: int | None, folder: Path) -> None:
        self.folder = folder
        self.clips = {split: [row.clip for row in rows if row.clip.split == split] for split in SPLITS}
        if clips is not None:
            chosen = set(sorted((clip.id for clip in self.clips["train"]), key=digest)[:clips])
            self.clips["train"] = [clip for clip in self.clips["train"] if clip.id in chosen]
        self.stores = write_stores(rows, experiment, folder)

    def language_model(self, experiment: Experiment, seed: int) -> Path:
        """The folder of a language model of these settings; made once."""
        settings = experiment.train.lm
        assert settings is not None
        settings = settings.model_copy(update={"seed": seed})
        texts = [clip.text for clip in self.clips["train"]]
        folder = self.folder / f"lm-{digest([settings.model_dump(mode='json'), texts])[:12]}"
        if not folder.is_dir():
            tokenizer = train_tokenizer(texts, settings.vocabulary, LANGUAGE)
            torch.manual_seed(seed)
            model = build_mbart(settings.model, tokenizer, LANGUAGE)
            work = self.folder / f"{folder.name}-work"
            pretrain(model, tokenizer, [[text] for text in texts], settings, work, told("denoising"))
            with replacing(folder) as new:
                model.save_pretrained(new)
                tokenizer.save_pretrained(new)
            shutil.rmtree(work)
        return folder

    def translated(self, experiment: Experiment, seed: int) -> tuple[list[Prediction], dict[str, float]]:
        """The test split by a translator of this seed; and how it was made."""
        settings = experiment.train.stage2.model_copy(update={"seed": seed})
        folder = self.language_model(experiment, seed)
        began, spent = time.monotonic(), time.process_time()
        model, tokenizer = load_language_model(folder, LANGUAGE, pretrained=settings.pretrained, seed=seed)
        work = Path(tempfile.mkdtemp(dir=self.folder))
        seen = self.stores["dev"].load([clip.id for clip in self.clips["dev"][:16]]).array
        watch = AdapterWatch(torch.from_numpy(seen).float())
        done = train_stage2(
            self.stores["train"], self.stores["dev"], self.clips["train"], self.clips["dev"], settings, model,
            tokenizer, work, told("stage 2"), say=say, callbacks=[watch],
        )  # fmt: skip
        shutil.rmtree(work)
        trained = time.process_time() - spent
        found = translate_split(
            done.model, tokenizer, self.stores["test"], self.clips["test"], beams=settings.beams,
            max_length=settings.max_length,
        )  # fmt: skip
        facts = {
            "dev_bleu4": max((entry["eval_bleu4"] for entry in done.log if "eval_bleu4" in entry), default=0.0),
            "dev_loss": min((entry["eval_loss"] for entry in done.log if "eval_loss" in entry), default=0.0),
            "training_processor_seconds": trained, "processor_seconds": time.process_time() - spent,
            "seconds": time.monotonic() - began, **watch.seen,
        }  # fmt: skip
        return found, facts


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def told(stage: str) -> Any:
    """Progress, every hundred steps."""

    def report(step: int, steps: int, figures: Any) -> None:
        if step % 100 == 0 or step == steps:
            say(f"{stage} {step}/{steps} {time.process_time():.0f} s {dict(figures)}")

    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of every arm")
    parser.add_argument("--arm", nargs="+", action="append", default=[], metavar=("NAME", "KEY=VALUE"))
    parser.add_argument("--clips", type=int, help="of the train split; default: all")
    parser.add_argument("--keep", type=Path, help="folder for features and language models, which another run takes")
    parser.add_argument("--smoke", action="store_true", help="tiny, so that nothing is learnt; prints only")
    parser.add_argument("--out", type=Path, default=FOLDER / "gloss_oracle.json")
    options = parser.parse_args()
    quiet_transformers()
    shared = [*(SMOKE if options.smoke else ()), *options.set]
    arms = {name: load_config(CONFIG, [*shared, *own]) for name, *own in [["plain"], *options.arm]}
    plain = arms["plain"]
    torch.set_num_threads(plain.train.threads or os.cpu_count() or 1)
    rows = read_table(options.table)
    predictions: dict[str, list[list[Prediction]]] = {name: [] for name in arms}
    facts: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory() as folder:
        oracle = Oracle(rows, plain, options.clips, options.keep or Path(folder))
        for seed in options.seeds:
            for name, experiment in arms.items():
                say(f"seed {seed}, {name}")
                found, of = oracle.translated(experiment, seed)
                scores = count(found, plain.score).scores()
                predictions[name].append(found)
                facts[name].append({"bleu4": scores["bleu4"], "rouge": scores["rouge"], **of})
                say(f"seed {seed}, {name}: {facts[name][-1]}")
    report = {
        "title": "Stage 2 behind perfect sight",
        "command": " ".join(["python benchmarks/gloss_oracle.py TABLE", *map(shlex.quote, sys.argv[2:])]),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "clips": {split: len(clips) for split, clips in oracle.clips.items()},
        "arms": {name: own for name, *own in options.arm},
        "by_seed": {name: dict(zip(options.seeds, of, strict=True)) for name, of in facts.items()},
        **compared(facts, predictions, plain.score),
        "wanted": {"plain_bleu4": "at least 20"},
    }
    if options.smoke:
        print(json.dumps(report, indent=2))
    else:
        write_report(report, options.out)


def compared(
    facts: Mapping[str, Sequence[Mapping[str, float]]],
    predictions: Mapping[str, Sequence[Sequence[Prediction]]],
    settings: ScoreSettings,
) -> dict[str, dict[str, float]]:
    """Means over the seeds of each arm, and what lies between it and the plain one."""
    figures = {
        f"{name}_{fact}": statistics.fmean(one[fact] for one in of) for name, of in facts.items() for fact in of[0]
    }
    ratios = {f"{name}_bleu4": figures[f"{name}_bleu4"] for name in facts}
    for name in list(facts)[1:]:
        tested = []
        for pair in zip(predictions["plain"], predictions[name], strict=True):
            both = dict(zip(("plain", name), pair, strict=True))
            counts = {row: count(of, settings) for row, of in both.items()}
            tested.append(compare(both, counts, "plain", settings).systems[name]["bleu4"])
        ratios[f"{name}_less_plain_bleu4"] = statistics.fmean(one.difference for one in tested)
        ratios |= {f"{name}_p_value_{place}": one.p_value for place, one in enumerate(tested)}
        work = "training_processor_seconds"
        ratios[f"{name}_training_vs_plain"] = figures[f"{name}_{work}"] / figures[f"plain_{work}"]
    return {"figures": figures, "ratios": ratios}


if __name__ == "__main__":
    main()
