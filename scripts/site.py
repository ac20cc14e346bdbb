"""What the site has besides the pages of docs/: the API, the map of the rooms, files of the root.

A hook of MkDocs (``mkdocs.yml``). Nothing here is written into the checkout.
"""

from __future__ import annotations

import ast
import os.path
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests import test_imports as imports  # noqa: E402 - of this checkout

API = ("stages", "dicom_reader", "ai_livertumor", "dicom_writer")
"""The packages whose API is a page for each room."""

FROM_THE_ROOT = {
    "CONTRIBUTING.md": "contributing/index.md",
    "CHANGELOG.md": "contributing/changelog.md",
    "SECURITY.md": "contributing/security.md",
    "CODE_OF_CONDUCT.md": "contributing/code-of-conduct.md",
}
"""Files that belong to the root of a repository, and their pages."""

_MAP = re.compile(r"<!-- map of (\w+) -->")
_LINK = re.compile(r"(\]\()(?!https?://|mailto:|#)([^)#\s]+)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages that are made here to the navigation."""
    nav: list[Any] = config.nav or []
    sections = {title: pages for section in nav for title, pages in section.items()}
    sections["Reference"].append(
        {"API": [{package: [{title: page} for title, page, _ in api_pages(package)]} for package in API]}
    )
    sections["Contributing"][:0] = [FROM_THE_ROOT["CONTRIBUTING.md"]]
    sections["Contributing"] += [page for name, page in FROM_THE_ROOT.items() if name != "CONTRIBUTING.md"]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the API and those of the root."""
    for package in API:
        for _, page, text in api_pages(package):
            files.append(File.generated(config, page, content=text))
    for name, page in FROM_THE_ROOT.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=relinked(text, Path(name), Path("docs", page))))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Draw the maps of the rooms, and send links to files outside of docs/ to where those are."""
    markdown = _MAP.sub(lambda place: room_map(place[1]), markdown)
    return _LINK.sub(lambda link: link[1] + target(link[2], page, str(config.repo_url)), markdown)


def target(link: str, page: Page, repository: str) -> str:
    """Return where a link of a page leads: a page of the site, or the file in the repository."""
    place = Path(os.path.normpath(Path("docs", page.file.src_uri).parent / link))
    if place.parts[0] == "docs" or not (ROOT / place).exists():
        return link
    if place.as_posix() in FROM_THE_ROOT:
        return os.path.relpath(FROM_THE_ROOT[place.as_posix()], Path(page.file.src_uri).parent)
    return f"{repository}/{place.as_posix()}"


def relinked(text: str, old: Path, new: Path) -> str:
    """Return the text of a file with its relative links as they are from another place."""
    return _LINK.sub(
        lambda link: link[1] + os.path.relpath(os.path.normpath(old.parent / link[2]), new.parent), text
    )


def api_pages(package: str) -> Iterable[tuple[str, str, str]]:
    """Yield title, path and text of the pages of a package: what it offers, then its rooms top to bottom."""
    front = f"# {package}\n\n{sentence(package)}\n\n"
    front += f"`from {package} import ...`\n\n| name | what it is |\n|---|---|\n"
    for name, home in offered(package).items():
        front += f"| [`{name}`][{home}] | {first_line(home)} |\n"
    yield "offered", f"reference/api/{package}/index.md", front
    for room in imports.ROOMS.get(package, ()):
        modules = [
            name
            for name in sorted(imports.MODULES)
            if name.startswith(f"{package}.{room}.") or name == f"{package}.{room}"
        ]
        text = f"# {package}.{room}\n\n{sentence(f'{package}.{room}')}\n\n"
        for name in modules:
            if imports.MODULES[name].name != "__init__.py":
                text += f"## {name.rpartition('.')[2]}\n\n::: {name}\n\n"
        yield room, f"reference/api/{package}/{room}.md", text


def offered(package: str) -> dict[str, str]:
    """Return what a package lists in ``__all__``, in its order, and where each is defined."""
    module = imports.tree_of(imports.MODULES[package])
    homes = {
        alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    listed: list[str] = next(
        ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    return {name: homes[name] for name in listed}


def first_line(home: str) -> str:
    """Return the first line of the docstring of a class or function."""
    module, _, name = home.rpartition(".")
    for node in imports.tree_of(imports.MODULES[module]).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def sentence(name: str) -> str:
    """Return the docstring of a package, a room or a module."""
    return ast.get_docstring(imports.tree_of(imports.MODULES[name])) or ""


def room_map(package: str) -> str:
    """Return a table of a package's rooms: what each is for, and which rooms above it it imports."""
    rows = ["| room | what it is for | imports of the package |", "|---|---|---|"]
    for line in imports.map_of(package).splitlines():
        room, _, arrows = line.strip().partition(": ")
        said = sentence(f"{package}.{room}").partition("\n")[0]
        rows.append(f"| `{room}` | {said} | {arrows} |")
    return "\n".join(rows)
