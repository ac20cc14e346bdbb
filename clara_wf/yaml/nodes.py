"""YAML as a tree of nodes: bounded before anything is made of it, and read the way Helm reads it.

Helm reads YAML 1.1, this software YAML 1.2: what is written ``on`` or ``1_000`` is text for one and not for
the other. Both read quoted text alike.

References
----------
gopkg.in/yaml.v2, resolve.go, by way of sigs.k8s.io/yaml, which Helm 3 and 4 use.
"""

from __future__ import annotations

import re
from typing import Any

from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

LARGEST_FILE = 2**18
"""Of a file of definitions, bytes: some 400 stages."""

_DEEPEST = 40
_MOST_NODES = 20_000

_TRUE, _FALSE = {"y", "yes", "true", "on"}, {"n", "no", "false", "off"}
_NULL = {"", "~", "null", "Null", "NULL"}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BASES = ((re.compile(r"[-+]?0[0-7]+"), 8), (re.compile(r"[-+]?0[xXoObB][0-9a-fA-F]+|[-+]?[0-9]+"), 0))
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class BoundsError(MarkedYAMLError):
    """The file is deeper or larger than any definition is."""


class BoundedComposer(Composer):
    """Makes nodes of a text, and refuses what would grow without bounds when it is read.

    Aliases count with everything that they stand for, so that a few lines cannot stand for millions.

    Parameters
    ----------
    loader
        What reads the YAML.
    """

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader=loader)
        self.warn_double_anchors = False
        self._level = self._total = 0
        self._weights: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node.

        Parameters
        ----------
        parent
            The node that holds it, as of `ruamel.yaml`.
        index
            Its key or number in that, as of `ruamel.yaml`.
        """
        event, before = self.parser.peek_event(), self._total
        self._level, self._total = self._level + 1, self._total + 1
        if self._level > _DEEPEST:
            raise _beyond(f"more than {_DEEPEST} levels in one another", event)
        node = super().compose_node(parent, index)
        if not isinstance(event, AliasEvent):
            self._weights[id(node)] = self._total - before
        elif id(node) in self._weights:
            self._total += self._weights[id(node)]
        else:
            raise _beyond("an anchor (&) that holds itself", event)
        if self._total > _MOST_NODES:
            raise _beyond(f"more than {_MOST_NODES} values, aliases (*) written out", event)
        self._level -= 1
        return node


def _beyond(problem: str, event: Any) -> BoundsError:
    return BoundsError(problem=problem, problem_mark=event.start_mark)


def as_helm_reads(node: Node | None) -> Any:
    """Return the values that Helm makes of a node: text, numbers, truth values, None, lists, dictionaries."""
    if isinstance(node, MappingNode):
        return _mapping(node)
    if isinstance(node, SequenceNode):
        return [as_helm_reads(each) for each in node.value]
    return _scalar(node) if isinstance(node, ScalarNode) else None


def _mapping(node: MappingNode) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key, value in node.value:
        if key.value == "<<" and key.style is None:
            others = value.value if isinstance(value, SequenceNode) else [value]
            for other in reversed(others):
                merged |= as_helm_reads(other) if isinstance(other, MappingNode) else {}
        else:
            own[_key(key)] = as_helm_reads(value)
    return merged | own


def _key(node: Node) -> str:
    read = _scalar(node) if isinstance(node, ScalarNode) else "?"
    return str(read).lower() if isinstance(read, bool) else str(node.value)


def _scalar(node: ScalarNode) -> Any:
    text = str(node.value)
    if node.style is not None:  # quoted
        return text
    if text in _NULL:
        return None
    if text in (text.lower(), text.capitalize(), text.upper()) and text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    return _number(text)


def _number(text: str) -> str | int | float:
    if not re.match(r"[-+.0-9]", text):
        return text
    plain = text.replace("_", "")
    for pattern, base in _BASES:
        if pattern.fullmatch(plain):
            try:
                return int(plain, base)
            except ValueError:
                break
    if _FLOAT.fullmatch(plain) or _SPECIAL.fullmatch(text):
        return float(plain if _FLOAT.fullmatch(plain) else text.replace(".", ""))
    return text
