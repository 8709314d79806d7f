"""``slt config``: what a config resolves to and where each value came from; every key that a config can have."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from extract.errors import InputError, suggestion
from pipeline.commands.arguments import CONFIG_HELP, AsJson, Manifest, Set, open_run
from pipeline.commands.printing import print_json


def config(
    given: Annotated[str | None, typer.Argument(metavar="[CONFIG | PREFIX]", help=CONFIG_HELP)] = None,
    list_keys: Annotated[bool, typer.Option("--keys", help="List the keys that begin with PREFIX instead.")] = False,
    overrides: Set = None,
    manifest: Manifest = None,
    as_json: AsJson = False,
) -> None:
    """What a config resolves to, each value with where it came from; with --keys, all keys there are."""
    if list_keys:
        _list(given or "", as_json)
        return
    if given is None:
        raise InputError("slt config", expected="CONFIG, or --keys", found="neither",
                         remedy="For example `slt config demo`, or `slt config --keys train.stage2`.")  # fmt: skip
    from pipeline.experiment.config import apply_override, read_config, usual_scoring
    from pipeline.experiment.settings_reference import commented

    path, written = read_config(given)
    from_set: dict[str, Any] = {}
    for override in overrides or ():
        apply_override(from_set, override)
    run = open_run(given, None, overrides, manifest)
    data, score, dataset = run.experiment.data, run.experiment.score.model_fields_set, run.dataset
    held = {"root": dataset.location, "language": dataset.entry.language, "fps": dataset.entry.fps}
    held = {name: value for name, value in held.items() if getattr(data, name) is None}
    usual = [name for name in usual_scoring(dataset.entry) if name not in score]
    origins = dict.fromkeys(_dotted(written), path.name) | dict.fromkeys(_dotted(from_set), "--set")
    origins |= dict.fromkeys([*(f"data.{name}" for name in held), *(f"score.{name}" for name in usual)], "the manifest")
    resolved = run.experiment.model_copy(update={"data": data.model_copy(update=held), "score": run.scoring})
    if as_json:
        print_json(resolved.model_dump(mode="json"))
    else:
        typer.echo("\n".join(commented(resolved, origins)))


def _dotted(values: dict[str, Any], above: str = "") -> list[str]:
    """Keys of what is written, the innermost mappings'."""
    found = []
    for name, value in values.items():
        key = f"{above}{name}"
        found += _dotted(value, f"{key}.") if isinstance(value, dict) and value else [key]
    return found


def _list(prefix: str, as_json: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding

    from pipeline.experiment.settings_reference import keys

    chosen = keys(prefix)
    if not chosen:
        known = [key.name for key in keys()]
        raise InputError("slt config --keys", expected="the beginning of a key", found=repr(prefix),
                         remedy=suggestion(prefix, [*known, *{name.partition('.')[0] for name in known}]))  # fmt: skip
    if as_json:
        print_json([key._asdict() for key in chosen])
        return
    console = Console(highlight=False)
    for key in chosen:
        mark = f"  [{key.mark}]" if key.mark else ""
        console.print(f"[bold]{escape(key.name)}[/]: {escape(key.type)} = {escape(key.default or 'must be given')}"
                      f"{escape(mark)}", soft_wrap=True)  # fmt: skip
        if key.meaning:
            console.print(Padding(escape(key.meaning), (0, 0, 0, 4)))
