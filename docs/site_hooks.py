"""What mkdocs is told besides mkdocs.yml: pages that lie beside docs/, and links between the two."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
BESIDE = {name: name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CITATION.cff")} | {
    "README.md": "index.md"
}
"""Pages and files in the repository's root, and what they are called in the site."""
_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for name, page in BESIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they are in the repository, as they are in the site."""
    here = posixpath.dirname(page.file.src_uri)
    folder = "" if page.file.src_uri in BESIDE.values() else posixpath.join("docs", here)

    def in_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[0]))
        return posixpath.relpath(BESIDE.get(target, target.removeprefix("docs/")), here or ".")

    return _LINK.sub(in_site, markdown)
