"""The documentation: links lead somewhere, and what it names is there."""

import pkgutil
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml
from pydantic import BaseModel

from pipeline.commands.cli import app
from pipeline.experiment.config import Experiment

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")
NAME = re.compile(r"`((?:extract|train|eval|pipeline)(?:\.\w+)+)[`(:=]")
FILE = re.compile(r"`((?:extract|train|eval|pipeline|tests|benchmarks)/[\w/.-]+)`")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Of its headings, as they are made where the repository is browsed and by mkdocs."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def in_config(name: str) -> bool:
    """Whether it is a key of a config."""
    kinds: list[Any] = [Experiment]
    for part in name.split("."):
        fields = [kind.model_fields[part].annotation for kind in kinds if part in kind.model_fields]
        if not fields:
            return False
        kinds = [each for field in fields for each in (field, *get_args(field))
                 if isinstance(each, type) and issubclass(each, BaseModel)]  # fmt: skip
    return True


def in_python(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(prose(page)):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    if page.name == "CHANGELOG.md":  # names what is gone
        return
    names = [name for name in NAME.findall(prose(page)) if not name.endswith((".zarr", ".parquet", ".txt", ".h5"))]
    assert [name for name in names if not in_config(name) and not in_python(name)] == []
    assert [file for file in FILE.findall(prose(page)) if not (ROOT / file).exists()] == []


def test_every_folder_is_on_the_map() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    folders = [init.parent.relative_to(ROOT) for package in ("extract", "train", "eval", "pipeline")
               for init in ROOT.glob(f"{package}/*/__init__.py")]  # fmt: skip
    assert [str(folder) for folder in folders if f"`{folder}`" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_their_options_are_known(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"^slt .*|(?<=`)slt [^`]+|(?<=-m pipeline) .*", text, re.MULTILINE):
        words = line.removeprefix("slt ").partition("  #")[0].split()
        command: Any = typer.main.get_command(app)
        while hasattr(command, "commands") and words and re.fullmatch(r"[a-z]\w*", words[0]):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        known = {"--help"} | {option for parameter in command.params for option in parameter.opts}
        assert [word for word in words if word.startswith("--") and word.partition("=")[0] not in known] == [], line


def test_no_two_modules_share_a_name() -> None:
    files = [
        path.name for package in ("extract", "train", "eval", "pipeline") for path in ROOT.glob(f"{package}/**/*.py")
    ]
    assert {name for name in files if files.count(name) > 1} == {"__init__.py", "settings.py"}


def test_one_version() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version[1]
    assert f"## [{version[1]}]" in (ROOT / "CHANGELOG.md").read_text()
