"""The JSON beside a volume: where it came from, as `stages.volume.origin.Origin` has it.

Others may have written it, so every key is looked at, and what is wrong is told with its place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from stages.errors import InputError, printable
from stages.runtime import job_files
from stages.volume.labels import Label
from stages.volume.origin import Algorithm, Correction, Origin, SliceOrigin

_Kind = TypeVar("_Kind")
_Block = Mapping[str, Any]
_WORDS: Mapping[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a block of keys",
}
_LONGEST_SHOWN = 60


def read_origin(path: Path) -> Origin:
    """Return what the ``.json`` beside a volume says of it; what a file's name says where there is none.

    Beside a file of another program may lie a JSON of that program; it is passed over.

    Parameters
    ----------
    path
        The volume's file.

    Raises
    ------
    InputError
        If it cannot be read, or a key is unknown or holds something else than it should; the message has
        its place.
    """
    name = path.name.removesuffix(".gz").removesuffix(path.suffix if path.suffix != ".gz" else ".nii")
    beside = path.with_name(f"{name}.json")
    content = job_files.read(beside, follow=True)
    if content is None or (path.suffix != ".mhd" and not _is_ours(content)):
        return Origin(series_instance_uid=name)
    try:
        stored = job_files.parsed(content)
        if not isinstance(stored, dict):
            raise ValueError(f"expected a block of keys, found {_shown(stored)}")
        return origin_of(stored)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError(
            f"{printable(beside.name)}: not the description of a volume: no JSON, {where}"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{printable(beside.name)}: not the description of a volume: {error}") from error


def _is_ours(content: bytes) -> bool:
    with suppress(ValueError):
        return "series_instance_uid" in job_files.parsed(content)
    return False


def origin_of(stored: _Block) -> Origin:
    """Return the origin that a JSON object holds.

    Parameters
    ----------
    stored
        The object, as the ``.json`` beside a volume holds it.

    Raises
    ------
    ValueError
        If a key is unknown, missing, or holds something else than it should; the message has its place.
    """
    _require_known(stored, Origin, "")
    _require_there(stored, ("series_instance_uid", "slices", "repairs"), "")
    slices = [_slice_of(block, f"slices[{n}]") for n, block in enumerate(_list(stored, "slices", dict), 1)]
    selection = _value(stored, "selection", dict, {})
    algorithm, correction = stored.get("algorithm"), stored.get("correction")
    return Origin(
        **{name: _value(stored, name, str, "") for name in _TEXTS},
        slices=tuple(slices),
        repairs=tuple(_list(stored, "repairs", str)),
        correction=None if correction is None else _correction_of(stored, len(slices)),
        selection={name: _value(selection, name, str, "", "selection.") for name in selection},
        algorithm=None if algorithm is None else _algorithm_of(stored),
        label_values=_label_values(stored),
        labels=_labels_of(stored),
        warnings=tuple(_list(stored, "warnings", str)),
    )


_TEXTS = (
    *("series_instance_uid", "study_instance_uid", "frame_of_reference_uid", "body_part", "part"),
    "pixel_sha256",
)


def _slice_of(block: _Block, where: str) -> SliceOrigin:
    _require_known(block, SliceOrigin, f"{where}.")
    _require_there(block, ("sop_instance_uid", "position"), f"{where}.")
    position = _list(block, "position", float, f"{where}.")
    if len(position) != 3:
        raise ValueError(f"{where}.position: expected three numbers, found {_shown(position)}")
    return SliceOrigin(
        sop_instance_uid=_value(block, "sop_instance_uid", str, "", f"{where}."),
        position=(position[0], position[1], position[2]),
        frame=_number(block, "frame", where),
        series_instance_uid=_value(block, "series_instance_uid", str, "", f"{where}."),
        instance_number=_number(block, "instance_number", where),
    )


def _number(block: _Block, name: str, where: str) -> int | None:
    return None if block.get(name) is None else _value(block, name, int, 0, f"{where}.")


def _algorithm_of(stored: _Block) -> Algorithm:
    block = _value(stored, "algorithm", dict, {})
    _require_known(block, Algorithm, "algorithm.")
    return Algorithm(
        **{field.name: _value(block, field.name, str, "", "algorithm.") for field in fields(Algorithm)}
    )


def _correction_of(stored: _Block, slices: int) -> Correction:
    block = _value(stored, "correction", dict, {})
    _require_known(block, Correction, "correction.")
    _require_there(block, [field.name for field in fields(Correction)], "correction.")
    matrix = _list(block, "matrix", int, "correction.")
    rows = [
        _list({name: row}, name, float, "correction.")
        for name, row in (
            (f"first_pixels[{n}]", row) for n, row in enumerate(_list(block, "first_pixels", list), 1)
        )
    ]
    lies_on_grid = len(rows) == slices and all(
        len(row) == 3 and np.isfinite(row).all() and min(row) > -1e-3 for row in rows
    )
    if not lies_on_grid or len(matrix) != 2 or min(matrix) < 1:
        raise ValueError("its correction does not fit its slices")
    return Correction(
        kinds=tuple(_list(block, "kinds", str, "correction.")),
        matrix=(matrix[0], matrix[1]),
        first_pixels=tuple((row[0], row[1], row[2]) for row in rows),
        fill_hu=_value(block, "fill_hu", int, 0, "correction."),
    )


def _label_values(stored: _Block) -> tuple[int, ...]:
    values = _list(stored, "label_values", int)
    if wrong := [value for value in values if not 1 <= value <= 255]:
        raise ValueError(f"label_values: expected numbers from 1 to 255, found {wrong[0]}")
    return tuple(values)


def _labels_of(stored: _Block) -> tuple[Label, ...]:
    """Return labels as all files hold them; where there are none nothing needs to be imported."""
    blocks = _list(stored, "labels", dict)
    if not blocks:
        return ()
    from stages.volume.labels_file import parse_labels

    return parse_labels(blocks, "labels")


def _require_known(block: _Block, kind: Any, where: str) -> None:
    known = [field.name for field in fields(kind)]
    if unknown := sorted(set(block) - set(known)):
        raise ValueError(f"there is no key {where}{_shown(unknown[0])}; known are {', '.join(known)}")


def _require_there(block: _Block, names: Sequence[str], where: str) -> None:
    if missing := [name for name in names if name not in block]:
        raise ValueError(f"{where}{missing[0]} is missing")


def _list(block: _Block, name: str, kind: type[_Kind], where: str = "") -> list[_Kind]:
    entries: Sequence[Any] = _value(block, name, list, [], where)
    numbered = {f"{name}[{n}]": entry for n, entry in enumerate(entries, 1)}
    return [_value(numbered, each, kind, None, where) for each in numbered]


def _value(block: _Block, name: str, kind: type[_Kind], otherwise: Any, where: str = "") -> _Kind:
    """Return a value of a key, or what stands for it where it is left out."""
    value: Any = block.get(name, otherwise)
    kinds = (int, float) if kind is float else (kind,)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ValueError(f"{where}{name}: expected {_WORDS[kind]}, found {_shown(value)}")
    return cast(_Kind, float(cast(Any, value)) if kind is float else value)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
