"""Pages that need nothing but themselves: one file each, without network or script."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eval.atomic import write_atomic
from extract.errors import InputError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def write_html(path: str | Path, template: Path, filters: Mapping[str, Callable[..., Any]], **values: Any) -> Path:
    """Fill a template and write the page atomically.

    Args:
        template: may include ``page.css.j2`` besides the files of its own folder.
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
    # A file name that is not valid Unicode can come in: no reason to fail.
    return write_atomic(path, page.encode(errors="replace"))


def png_uri(caption: str, data: bytes) -> str:
    """The contents of a PNG file as an address that holds them.

    Raises:
        InputError: not a PNG file.
    """
    if not data.startswith(PNG_SIGNATURE):
        raise InputError(f"image {caption!r}", expected="a PNG file", found=f"{data[:8]!r}", remedy="Save it as PNG.")
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")
