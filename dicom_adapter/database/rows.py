"""Rows of the database as records, each checked: a damaged one must harm nobody else's."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import Any

from dicom_adapter.database.records import (
    DELIVERY_MOVES,
    JOB_MOVES,
    STUDY_MOVES,
    Delivery,
    Job,
    Received,
    Study,
)

_LONGEST_TEXT = 1 << 16
_JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "bool": (int,),
    "float": (int, float),
    "str": (str,),
    "Path": (str,),
    "tuple": (str,),
    "None": (type(None),),
}


class DamagedRowError(ValueError):
    """A row holds what the adapter never wrote."""


def study_of(row: sqlite3.Row) -> Study:
    """Return a study.

    Raises
    ------
    DamagedRowError
        If the row is damaged.
    """
    return Study(**_checked(row, Study, STUDY_MOVES))


def received_of(row: sqlite3.Row) -> Received:
    """Return an instance.

    Raises
    ------
    DamagedRowError
        If the row is damaged.
    """
    kept = _checked(row, Received)
    return Received(**{**kept, "path": Path(kept["path"]), "conflict": bool(kept["conflict"])})


def job_of(row: sqlite3.Row) -> Job:
    """Return a job.

    Raises
    ------
    DamagedRowError
        If the row is damaged.
    """
    kept = _checked(row, Job, JOB_MOVES)
    if not _JOB_ID.fullmatch(kept["id"]):
        raise DamagedRowError("column id, which names a folder, holds no UUID")
    try:
        names = json.loads(kept["destinations"])
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise DamagedRowError("column destinations holds no list of names")
    return Job(**{**kept, "destinations": tuple(names)})


def delivery_of(row: sqlite3.Row) -> Delivery:
    """Return a delivery.

    Raises
    ------
    DamagedRowError
        If the row is damaged.
    """
    kept = _checked(row, Delivery, DELIVERY_MOVES)
    return Delivery(**{**kept, "path": Path(kept["path"]), "unsure": bool(kept["unsure"])})


def _checked(row: sqlite3.Row, kind: type, states: Collection[str] = ()) -> dict[str, Any]:
    kept = {name: row[name] for name in kind.__annotations__}
    for name, annotation in kind.__annotations__.items():
        value = kept[name]
        allowed = [each.split("[")[0] for each in str(annotation).split(" | ")]
        if not isinstance(value, sum((_TYPES[each] for each in allowed), ())):
            raise DamagedRowError(f"column {name} holds {type(value).__name__}, expected {annotation}")
        if isinstance(value, str) and len(value) > _LONGEST_TEXT:
            raise DamagedRowError(f"column {name} holds a text of {len(value)} characters")
    if states and kept["state"] not in states:
        raise DamagedRowError(f"column state holds none of {', '.join(states)}")
    return kept
