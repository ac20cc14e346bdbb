"""Labels as files hold them: blocks of JSON or YAML, one a label, in every place in the same form.

A file of labels, the JSON beside a mask, ``labels:`` of a workflow in values.yaml and the setting
``NVIDIA_CLARA_LABELS`` hold them so.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from stages.errors import OutputError, SettingsError, printable
from stages.runtime import atomic, job_files
from stages.runtime.validation import Mistake, mistakes, place_text
from stages.volume.labels import Label

_LARGEST_FILE = 4 << 20  # bytes

SUFFIX = ".labels.json"


def read_labels(path: str | Path) -> tuple[Label, ...]:
    """Return the labels of a file, ``labels:`` and a list of blocks, by rising value.

    Parameters
    ----------
    path
        The file, YAML or JSON in UTF-8, at most 4 MiB.

    Raises
    ------
    SettingsError
        If it cannot be read, is no YAML, or a label is incomplete or wrong; the message names every mistake
        and its place.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    path = Path(path)
    try:
        content = job_files.read(path, most_bytes=_LARGEST_FILE, follow=True)
        if content is None:
            raise FileNotFoundError(errno.ENOENT, "No such file")
        stored = YAML(typ="safe", pure=True).load(content.decode("utf-8"))
        return _from_file(stored)
    except OSError as error:
        raise SettingsError(f"cannot read the labels {printable(path)}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"the labels {printable(path)} are no text in UTF-8 (byte {error.start + 1}); save them so"
        ) from error
    except (YAMLError, RecursionError) as error:
        raise SettingsError(f"the labels {printable(path)} are no YAML{_where_in(error)}") from error
    except ValueError as error:
        raise SettingsError(f"the labels {printable(path)}: {error}") from error


def _where_in(error: Exception) -> str:
    """Return the place of a mistake, and that a key stands there twice if that is it."""
    mark, problem = getattr(error, "problem_mark", None), str(getattr(error, "problem", "") or "")
    place = f": line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    twice = re.match('found duplicate key "([^"]*)"', problem)
    return f'{place}: the key "{printable(twice[1])}" stands there twice' if twice else place


def _from_file(stored: Any) -> tuple[Label, ...]:
    if not isinstance(stored, Mapping) or set(stored) != {"labels"}:
        found = ", ".join(map(str, stored)) if isinstance(stored, Mapping) else "no key" if stored else ""
        raise ValueError(f"expected the one key 'labels' and below it a list, found {found or 'nothing'}")
    return parse_labels(stored["labels"], "labels")


def write_labels(labels: Iterable[Label], folder: Path, name: str) -> Path:
    """Write ``<name>.labels.json``, a file of labels; it is there whole or not at all.

    Parameters
    ----------
    labels
        What is written.
    folder
        Where the file goes; made if missing.
    name
        Name of the file without ``.labels.json``.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = folder / f"{name}{SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write(path, json.dumps({"labels": stored_labels(labels)}, indent=1), durable=False)
    except OSError as error:
        raise OutputError(f"cannot write {printable(path)}: {error.strerror or error}") from error
    return path


def labels_from_json(text: str, where: str) -> tuple[Label, ...]:
    """Return labels from a JSON text; none from an empty one.

    Parameters
    ----------
    text
        A JSON list of blocks, as for `parse_labels`.
    where
        Where the text stands, such as the name of a variable.

    Raises
    ------
    SettingsError
        If it is none; the message begins with `where` it stands.
    """
    if not text:
        return ()
    try:
        return parse_labels(json.loads(text), "labels")
    except json.JSONDecodeError as error:
        raise SettingsError(f"{where}: no JSON, line {error.lineno}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{where}: {error}") from error


def stored_labels(labels: Iterable[Label]) -> list[dict[str, Any]]:
    """Return labels as JSON, YAML and values.yaml hold them; `parse_labels` takes them back.

    Parameters
    ----------
    labels
        What is stored.
    """
    return [
        {key: value for key, value in asdict(label).items() if value not in (None, "")} for label in labels
    ]


def parse_labels(stored: Any, where: str = "") -> tuple[Label, ...]:
    """Return labels from what JSON or YAML holds: a list of blocks, one a label.

    Parameters
    ----------
    stored
        Blocks with ``value``, ``name``, ``type`` and ``rgb`` (three numbers, or ``"#rrggbb"``), and if need
        be ``description``, ``category`` and ``region``; codes are blocks of ``value``, ``scheme`` (SCT where
        it is left out) and ``meaning``.
    where
        It stands, put before the place of each mistake.

    Returns
    -------
    tuple of Label
        By rising value.

    Raises
    ------
    ValueError
        Naming every mistake, each with its place, such as ``[2].type.meaning``.
    """
    from pydantic import TypeAdapter, ValidationError

    if not isinstance(stored, Sequence) or isinstance(stored, str) or not stored:
        raise ValueError("expected a list with at least one label, each a block of value, name, type and rgb")
    blocks = [with_rgb(block) for block in stored]
    try:
        labels = TypeAdapter(tuple[Label, ...]).validate_python(blocks)
    except ValidationError as error:
        raise ValueError("; ".join(_sentences(error.errors(), where))) from None
    for attribute in ("value", "name"):
        seen = [getattr(label, attribute) for label in labels]
        twice = next((one for one in seen if seen.count(one) > 1), None)
        if twice is not None:
            raise ValueError(f"two labels have the {attribute} {twice!r}")
    return tuple(sorted(labels, key=lambda label: label.value))


def with_rgb(block: Any) -> Any:
    """Return a label's block with a colour such as ``"#ffcd3c"`` as three numbers; others as they are.

    Parameters
    ----------
    block
        A label's block as JSON or YAML holds it, or what stands in its place.
    """
    rgb = block.get("rgb") if isinstance(block, Mapping) else None
    if isinstance(rgb, str) and re.fullmatch("#[0-9a-fA-F]{6}", rgb):
        return {**block, "rgb": tuple(bytes.fromhex(rgb[1:]))}
    return {**block, "rgb": tuple(rgb)} if isinstance(rgb, list) else block


def _sentences(details: Iterable[Any], where: str) -> Iterator[str]:
    for mistake in mistakes(details):
        yield f"{where}{place_text(mistake.place, first_index=1)}: {problem_of(mistake)}"


def problem_of(mistake: Mistake) -> str:
    """Return in words what is wrong with a part of a label.

    Parameters
    ----------
    mistake
        One at a place in labels: an index, and keys below it.
    """
    if mistake.kind == "own":
        return mistake.message
    if mistake.kind == "missing":
        return "it is missing"
    if mistake.kind == "unknown":
        return f"there is no such key; known are {', '.join(field.name for field in fields(Label))}"
    *above, last = mistake.place
    is_block = isinstance(last, int) and above[-1:] != ["rgb"]
    expected = "a block of keys" if is_block else _EXPECTED.get(last, "a block of keys")
    return f"found {mistake.found!r}, expected {expected}"


_EXPECTED: Mapping[Any, str] = {
    "value": "a label from 1 to 255 (of a code: its text)",
    "rgb": 'three numbers from 0 to 255, or "#rrggbb"',
    **dict.fromkeys(("name", "description", "meaning", "scheme"), "text"),
    **dict.fromkeys(range(3), "a whole number from 0 to 255"),
}
