"""The stage that trims the vocabulary, and the command ``slt trim`` for any language model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from extract.errors import InputError
from pipeline.arguments import AsJson
from pipeline.freshness import file_digest, model_digest, sha256_of
from pipeline.language_models import named_by
from pipeline.printing import print_json
from pipeline.replacing import replacing
from pipeline.run import HELPED, Result, Run, Task
from train.processes import process_rank


def trim_inputs(run: Run) -> Mapping[str, Any]:
    train = run.experiment.train
    return {
        "language model": train.foreign,
        "language model files": model_digest(train.foreign) if train.foreign else None,
        "texts": [file_digest(text) for text in _texts(run)],
        "train.clips": train.clips,
        "language": run.dataset.entry.language,
    }


def run_trim(run: Run, task: Task) -> Result:
    """``tokenizer/``: the language model's, with the pieces of the train split; both stages read it.

    The model itself is trimmed when it is loaded, so that stage 1 does not hang on its weights.
    """
    from train.language_model import load_language_config
    from train.provenance import write_provenance
    from train.tokenizer import load_tokenizer
    from train.trimming import KEPT, trim_tokenizer

    if process_rank() > 0:
        return HELPED
    name, where, language = run.experiment.train.foreign, named_by(run), run.dataset.entry.language
    assert name is not None
    lines = [clip.text for clip in run.learnt()] + _lines(_texts(run))
    config, tokenizer = load_language_config(name, where), load_tokenizer(name, language, where)
    folder = run.folder / "tokenizer"
    with replacing(folder) as new:
        trimmed, _ = trim_tokenizer(tokenizer, lines, [config], new, language)
        facts = _facts(config, len(tokenizer), len(trimmed))
        write_provenance(new, stage="trim", inputs=task.inputs, **facts)
    identity = {file: sha256_of(folder / file) for file in ("tokenizer.json", KEPT)}
    return Result([folder], identity, _said(facts), figures=facts)


def trim(
    model: Annotated[str, typer.Argument(help="A language model: its folder, or its name on the Hugging Face hub.")],
    out: Annotated[Path, typer.Argument(help="Folder of the trimmed one; must not exist.")],
    text: Annotated[list[Path], typer.Option("--text", help="UTF-8 file whose pieces are kept. May be repeated.")],
    language: Annotated[
        str | None, typer.Option(help="Code that generation begins with: de_DE. Default: as the model has it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A language model and its tokenizer without the pieces that a text never needs."""
    from train.language_model import load_language_model
    from train.provenance import write_provenance
    from train.trimming import trim_model, trim_tokenizer

    if out.exists():
        raise InputError(out, expected="a folder that does not exist", found="something there",
                         remedy="Name another one, or remove it.")  # fmt: skip
    lines = _lines(text)
    whole, tokenizer = load_language_model(model, language, where="MODEL")
    config = whole.config.to_dict()
    with replacing(out) as new:
        trimmed, kept = trim_tokenizer(tokenizer, lines, [whole.config, whole.generation_config], new, language)
        facts = _facts(whole.config, len(tokenizer), len(trimmed))
        trim_model(whole, kept).save_pretrained(new)
        texts = {path.name: sha256_of(path) for path in text}
        made = {"model": Path(model).name, "model_type": config["model_type"], "texts": texts}
        write_provenance(new, stage="trim", inputs=made, **facts)
    if as_json:
        print_json({"out": str(out), **facts})
    else:
        typer.echo(f"{_said(facts)}\n{out}; next: --set train.translate.language_model={out}")


def _texts(run: Run) -> list[str]:
    """Files whose pieces are kept besides those of the train split."""
    train = run.experiment.train
    return [*train.translate.trim_text, *([train.lm.text] if train.lm and train.lm.text else [])]


def _lines(texts: list[str] | list[Path]) -> list[str]:
    from train.denoise import read_documents

    return [line for text in texts for document in read_documents(Path(text)) for line in document]


def _facts(config: Any, before: int, after: int) -> dict[str, Any]:
    from train.language_model import count_parameters

    parameters = {"before": count_parameters(config), "after": count_parameters(config, after)}
    return {"pieces": {"before": before, "after": after}, "parameters": parameters}


def _said(facts: Mapping[str, Any]) -> str:
    pieces, parameters = facts["pieces"], facts["parameters"]
    return (
        f"{pieces['after']} of {pieces['before']} pieces, "
        f"{parameters['after'] / 1e6:.1f} M of {parameters['before'] / 1e6:.1f} M parameters"
    )
