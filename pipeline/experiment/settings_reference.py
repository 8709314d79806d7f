"""Every key of a config, as its models have it: type, default, mark, meaning; and where a config's values came from."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

import yaml
from pydantic_core import PydanticUndefined

from extract.settings import Contents, Execution, Settings
from pipeline.experiment.config import Experiment

MARKS = {Execution: "how it runs", Contents: "by contents"}
"""Said of a field's mark; a field without one decides results by its value."""


class Key(NamedTuple):
    """A key of a config."""

    name: str
    """Dotted; ``[]`` stands for each element of a list."""
    type: str
    default: str
    """As YAML; empty: it must be given."""
    mark: str
    meaning: str


def keys(prefix: str = "") -> list[Key]:
    """All keys that begin with ``prefix``, in the order of the models."""
    return [key for key in _keys(Experiment, "", PydanticUndefined, "") if _begins(key.name, prefix)]


_LEAD = """# Settings

Every key of a config, as `slt config --keys [PREFIX]` lists them; `slt config CONFIG` says what a config resolves to,
and where each value came from. `[P]` = stated in the paper, `[F]` = as published systems do it, `[?]` = our choice.
A key marked "how it runs" makes no result stale; one marked "by contents" names files, whose contents decide.

Made from the models: `python -m pipeline.experiment.settings_reference > docs/settings.md`.
"""
_HEAD = "\n| key | type | default | mark | meaning |\n|---|---|---|---|---|\n"


def page() -> str:
    """The page docs/settings.md."""
    sections: dict[str, list[str]] = {}
    for key in keys():
        section, _, name = key.name.rpartition(".")
        cells = (f"`{name}`", key.type, f"`{key.default}`" if key.default else "must be given", key.mark, key.meaning)
        sections.setdefault(section, []).append(f"| {' | '.join(cells)} |\n")
    return _LEAD + "".join(f"\n## {name or 'Of all'}\n{_HEAD}{''.join(rows)}" for name, rows in sections.items())


def as_yaml(value: Any) -> str:
    """A plain value on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...")


def commented(experiment: Experiment, origins: Mapping[str, str]) -> Iterator[str]:
    """The lines of a resolved config, each value with where it came from.

    Args:
        origins: by dotted key, of the values that are no defaults; one of a section is that of all in it.
    """
    yield from _commented(experiment, experiment.model_dump(mode="json"), "", "default", origins)


def _commented(
    settings: Settings, plain: Mapping[str, Any], above: str, origin: str, origins: Mapping[str, str]
) -> Iterator[str]:
    for name, value in plain.items():
        key, held = above + name, getattr(settings, name)
        indent = "  " * above.count(".")
        known = origins.get(key, origin)
        if isinstance(held, Settings):
            yield f"{indent}{name}:"
            yield from _commented(held, value, f"{key}.", known, origins)
        else:
            inside = {origins[each] for each in origins if each.startswith(f"{key}.")}
            yield f"{indent}{name}: {as_yaml(value)}  # {', '.join(sorted(inside)) or known}"


def _begins(name: str, prefix: str) -> bool:
    parts, wanted = name.replace("[]", "").split("."), prefix.split(".") if prefix else []
    return parts[: len(wanted)] == wanted


def _keys(model: type[Settings], above: str, given: Any, mark: str) -> Iterator[Key]:
    """
    Args:
        given: the section's value by default, whose values are those of its keys.
        mark: of a section around.
    """
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        key = above + name
        default = getattr(given, name) if isinstance(given, model) else field.default
        own = next((said for kind, said in MARKS.items() if kind in field.metadata), mark)
        section = _section(field.annotation)
        many = isinstance(default, tuple) or "array" in str(schema["properties"][name].get("type"))
        if section is None or many or default is None:
            shown = "" if default is PydanticUndefined else as_yaml(model.model_construct(**{name: default}).model_dump(
                mode="json", include={name})[name])  # fmt: skip
            yield Key(key, _type(schema["properties"][name]), shown, own, _meaning(model, name))
        if section is not None:
            yield from _keys(section, f"{key}{'[]' if many else ''}.", default, own)


def _section(annotation: Any) -> type[Settings] | None:
    """The model of a field's values, or of the elements of its list."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    return next(filter(None, map(_section, get_args(annotation))), None)


def _meaning(model: type[Settings], name: str) -> str:
    """What is said at the field, or where a model above has it."""
    homes = (
        each.model_fields[name] for each in model.__mro__ if issubclass(each, Settings) and name in each.model_fields
    )
    said = next((field.description for field in homes if field.description), "")
    return " ".join(said.split()).replace("``", "`")


_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _type(schema: Mapping[str, Any]) -> str:
    """Of a JSON Schema, in words."""
    if "$ref" in schema:
        return "section"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(each) for each in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    kind = str(schema.get("type", "any value"))
    if kind == "array":
        items = schema.get("prefixItems")
        return f"list of {len(items)}" if items else f"list of {_type(schema.get('items', {}))}"
    if kind == "object":
        return "mapping"
    bounds = [f"{sign} {schema[bound]:g}" for bound, sign in _BOUNDS.items() if bound in schema]
    return " ".join([kind, ", ".join(bounds)]).strip()


if __name__ == "__main__":
    sys.stdout.write(page())
