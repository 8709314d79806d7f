"""Pages that need nothing but themselves: one file each, without network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from extract.atomic_write import write_atomic
from extract.errors import InputError


def render_html(template: Path, filters: Mapping[str, Callable[..., Any]], **values: Any) -> bytes:
    """A template filled in.

    Args:
        template: may include files of its own folder and of this one.
        filters: for the template, by name.
        values: what the template names.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,  # sentences may contain markup, and Jinja's own guess needs a name in .html
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    page = environment.get_template(template.name).render(**values)
    return page.encode(errors="replace")  # a file name that is not valid Unicode can come in: no reason to fail


def write_html(path: str | Path, template: Path, filters: Mapping[str, Callable[..., Any]], **values: Any) -> Path:
    """Fill a template and write the page atomically."""
    return write_atomic(path, render_html(template, filters, **values))


def image_uri(what: str, data: bytes) -> str:
    """The contents of a PNG or WebP file as an address that holds them.

    Raises:
        InputError: neither.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = "png"
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        kind = "webp"
    else:
        raise InputError(what, expected="a PNG or WebP file", found=f"{data[:8]!r}", remedy="Save it as one of them.")
    return f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")


def script_source(script: str) -> str:
    """How a page's Content-Security-Policy names the one script that may run on it."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii") + "'"
