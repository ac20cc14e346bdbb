"""The configuration of a MONAI bundle, read as data: references are followed, nothing of it is ever run.

A value may be a reference (``@pixdim``, ``@displayable_configs#sw_overlap``) or an expression of Python
(``$...``). Of expressions only those are read that compute plain values of plain values; any other stays what
it is, and is told where it is needed.

References
----------
MONAI, "Bundle Configuration": references with ``#`` or ``::`` between the keys, expressions, ``_target_``,
``_disabled_``.
"""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.errors import InputError, printable
from stages.runtime import job_files

_LARGEST = 16 << 20  # bytes
_DEEPEST = 40
_REFERENCE = re.compile(r"@([\w.]+(?:(?:#|::)[\w.]+)*)")
_SUFFIXES = (".json", ".yaml", ".yml")
_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


@dataclass(frozen=True)
class Unread:
    """An expression that is not read, since it does more than compute plain values.

    Attributes
    ----------
    text
        What the bundle says there.
    """

    text: str

    def __repr__(self) -> str:
        return printable(self.text)[:80]


@dataclass(frozen=True, kw_only=True)
class Component:
    """An object that a bundle would make.

    Attributes
    ----------
    target
        The last part of its class's name.
    arguments
        By name, read.
    """

    target: str
    arguments: Mapping[str, Any]


class BundleConfig:
    """A configuration, whose values are read one by one."""

    def __init__(self, path: Path) -> None:
        """Read a file.

        Parameters
        ----------
        path
            JSON or YAML.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        self.path = path
        self._content = _read(path)

    def get(self, *keys: str) -> Any:
        """Return a value, read: plain, a `Component`, or `Unread`; None where it is not there.

        Parameters
        ----------
        keys
            The names that lead to it, from the top.

        Raises
        ------
        InputError
            If it refers to itself or to what is not there.
        """
        value: Any = self._content
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return self._value(value, 0)

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def _value(self, value: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            raise InputError(f"{printable(self.path)} has references that lead in a circle, or too deep")
        if isinstance(value, str):
            return self._text(value, depth)
        if isinstance(value, list):
            return [self._value(each, depth + 1) for each in value]
        if isinstance(value, dict):
            read = {key: self._value(each, depth + 1) for key, each in value.items()}
            if "_target_" not in read:
                return read
            arguments = {key: each for key, each in read.items() if not key.startswith("_")}
            if read.get("_disabled_") in (True, "true"):
                return None
            return Component(target=str(read["_target_"]).rpartition(".")[2], arguments=arguments)
        return value

    def _text(self, text: str, depth: int) -> Any:
        if found := _REFERENCE.fullmatch(text):
            return self._referred(found[1], depth)
        if not text.startswith("$"):
            return text
        names: dict[str, Any] = {}

        def named(found: re.Match[str]) -> str:
            name = f"_{len(names)}"
            names[name] = self._referred(found[1], depth)
            return name

        try:
            return _computed(ast.parse(_REFERENCE.sub(named, text[1:]), mode="eval").body, names)
        except (ValueError, SyntaxError, TypeError, ArithmeticError, RecursionError, MemoryError):
            return Unread(text)

    def _referred(self, reference: str, depth: int) -> Any:
        value: Any = self._content
        for key in re.split("#|::", reference):
            if isinstance(value, list) and key.isdigit() and int(key) < len(value):
                value = value[int(key)]
            elif isinstance(value, dict) and key in value:
                value = value[key]
            else:
                raise InputError(f"{printable(self.path)} refers to {reference!r}, which it does not have")
        return self._value(value, depth + 1)


def _read(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    content = job_files.read(path, most_bytes=_LARGEST, follow=True)
    if content is None:
        raise InputError(f"there is no {printable(path)}")
    try:
        text = content.decode("utf-8")
        found = json.loads(text) if path.suffix == ".json" else YAML(typ="safe", pure=True).load(text)
    except (ValueError, YAMLError, RecursionError) as error:
        raise InputError(f"{printable(path)} cannot be read: {printable(str(error))[:200]}") from error
    if not isinstance(found, dict):
        raise InputError(f"{printable(path)} holds {type(found).__name__}, expected an object")
    return found


def _computed(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """Return the value of an expression of constants; a ValueError for any other."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and node.id in names:
        value = names[node.id]
        if isinstance(value, Unread | Component):
            raise ValueError(value)
        return value
    if isinstance(node, ast.List | ast.Tuple):
        return [_computed(each, names) for each in node.elts]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_computed(node.operand, names)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _operated(node.op, _computed(node.left, names), _computed(node.right, names))
    if isinstance(node, ast.IfExp):
        return _computed(node.body if _computed(node.test, names) else node.orelse, names)
    raise ValueError(ast.dump(node)[:40])


def _operated(operation: ast.operator, left: Any, right: Any) -> Any:
    texts = isinstance(left, str) and isinstance(right, str) and isinstance(operation, ast.Add)
    if not texts and not (isinstance(left, int | float) and isinstance(right, int | float)):
        raise ValueError("neither numbers nor texts")
    return _OPERATORS[type(operation)](left, right)


def config_file(folder: Path, name: str) -> Path | None:
    """Return a configuration of a bundle, whatever its format; None where it has none.

    Parameters
    ----------
    folder
        The bundle.
    name
        Such as ``inference``.
    """
    return next(
        (each for suffix in _SUFFIXES if (each := folder / "configs" / f"{name}{suffix}").is_file()), None
    )
