"""The ``config.pbtxt`` of a foreign model, for a person to read: what was understood, and whence it comes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from clara_wf.model_import.imported import ForeignModel, Parameter
from clara_wf.model_import.onnx_graph import IMAGE, SCORES
from clara_wf.models.config_pbtxt import parameter_line
from stages.errors import printable

_LARGEST_BATCH = 4
_LARGEST_BATCH_OF_SLICES = 16
_WIDTH = 116


def config_text(name: str, model: ForeignModel) -> str:
    """Return the configuration of a foreign model.

    Parameters
    ----------
    name
        What it is called here.
    model
        What a reader has said of it.
    """
    batch = _LARGEST_BATCH if len(model.image_sizes) > 3 else _LARGEST_BATCH_OF_SLICES
    lines = [
        f'name: "{name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {batch}",
        _tensor("input", IMAGE, model.image_sizes),
        _tensor("output", SCORES, (model.channels, *model.image_sizes[1:])),
        "# On a CPU Triton would load it twice, and the two would share the cores.",
        "instance_group [ { count: 1 } ]",
        "",
        parameter_line("x_imported_from", model.kind),
        parameter_line("x_licence_of_weights", model.licence or "its files do not say"),
        *(line for note in model.notes for line in _comment(f"Note: {note}.")),
        "# Every parameter: docs/reference/model.md",
        *(line for parameter in model.parameters for line in _parameter(parameter)),
        *_unnamed(model.unnamed),
    ]
    return "\n".join(lines) + "\n"


def _tensor(kind: str, name: str, sizes: Sequence[int]) -> str:
    dims = ", ".join(map(str, sizes))
    return f'{kind} [ {{ name: "{name}" data_type: TYPE_FP32 dims: [ {dims} ] }} ]'


def _parameter(parameter: Parameter) -> Iterator[str]:
    if parameter.why:
        yield from _comment(parameter.why)
    if parameter.name == "label_meanings" and isinstance(parameter.value, Mapping):
        yield from _meanings(parameter.value)
    else:
        yield parameter_line(parameter.name, parameter.value)


def _meanings(meanings: Mapping[str, object]) -> Iterator[str]:
    """Yield what labels mean as one text, a line for each."""
    if not meanings:
        return
    parts = [f"{json.dumps(label)}: {json.dumps(meaning)}" for label, meaning in meanings.items()]
    yield 'parameters: { key: "label_meanings" value: { string_value:'
    for at, part in enumerate(parts):
        begin, end = "{" if at == 0 else " ", "}" if at == len(parts) - 1 else ","
        yield f"  {json.dumps(begin + part + end)}"
    yield "} }"


def _unnamed(unnamed: Sequence[tuple[int, str]]) -> Iterator[str]:
    """Yield what to add to label_meanings, for names that have no code here."""
    if unnamed:
        names = ", ".join(f"{label} {printable(name)!r}" for label, name in unnamed)
        yield from _comment(
            f"Of these labels only the name is known; add each to label_meanings with its SNOMED CT code, as "
            f"docs/reference/labels.md says: {names}"
        )


def _comment(text: str) -> Iterator[str]:
    """Yield a sentence as lines of a comment; nothing in it ends one."""
    line = "#"
    for word in printable(text).split():
        if len(line) + len(word) >= _WIDTH and line != "#":
            yield line
            line = "#"
        line += f" {word}"
    yield line
