"""``slt trim``: a language model without the pieces that a text never needs, of any experiment or none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from extract.atomic_write import replacing
from extract.errors import InputError
from extract.fingerprint import file_sha256
from pipeline.commands.arguments import AsJson
from pipeline.commands.printing import print_json
from pipeline.stages.run_trim import lines_of, trim_facts, trim_said


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
    from train.models.language_model import load_language_model
    from train.models.vocabulary_trimming import trim_model, trim_tokenizer
    from train.provenance import write_provenance

    if out.exists():
        raise InputError(out, expected="a folder that does not exist", found="something there",
                         remedy="Name another one, or remove it.")  # fmt: skip
    lines = lines_of(text)
    whole, tokenizer = load_language_model(model, language, where="MODEL")
    config = whole.config.to_dict()
    with replacing(out) as new:
        trimmed, kept = trim_tokenizer(tokenizer, lines, [whole.config, whole.generation_config], new, language)
        facts = trim_facts(whole.config, len(tokenizer), len(trimmed))
        trim_model(whole, kept).save_pretrained(new)
        texts = {path.name: file_sha256(path) for path in text}
        made = {"model": Path(model).name, "model_type": config["model_type"], "texts": texts}
        write_provenance(new, stage="trim", inputs=made, **facts)
    if as_json:
        print_json({"out": str(out), **facts})
    else:
        typer.echo(f"{trim_said(facts)}\n{out}; next: --set train.stage2.language_model={out}")
