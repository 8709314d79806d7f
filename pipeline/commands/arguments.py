"""Arguments that several commands share, and the experiment that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

_SHIPPED = sorted(path.stem for path in Path(__file__).parents[1].glob("experiment/configs/*.yaml"))
CONFIG_HELP = f"Config file, or a shipped one: {', '.join(_SHIPPED)}."
Config = Annotated[str, typer.Argument(help=CONFIG_HELP)]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the experiment. Default: runs/<name>.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override: key.path=value. May be repeated.")]
Manifest = Annotated[Path | None, typer.Option("--manifest", help="Another data_manifest.yaml.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Run even what is up to date.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def open_run(config: str, out: Path | None, overrides: list[str] | None, manifest: Path | None) -> Any:
    """The experiment that a command works on.

    Raises:
        InputError, ConfigError: see ``load_config``.
    """
    from pipeline.experiment.config import load_config
    from pipeline.experiment.run import Run

    experiment = load_config(config, overrides or [])
    beside = Path(config).parent if Path(config).is_file() else None
    return Run(experiment, out or Path("runs") / experiment.name, manifest, beside)
