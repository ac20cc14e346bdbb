"""Write the table of values into a chart's README.md: ``scripts/chart_values.py CHART``.

Defaults come from values.yaml, descriptions from values.schema.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

BEGIN, END = "<!-- values -->\n", "<!-- end of values -->\n"


def readme(chart: Path) -> str:
    """Return the chart's README.md with the table of its values as they are now."""
    text = (chart / "README.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table(chart) + END + after


def table(chart: Path) -> str:
    """Return the table, one line for each value that can be set by itself."""
    schema = json.loads((chart / "values.schema.json").read_text(encoding="utf-8"))
    values = YAML(typ="safe").load(chart / "values.yaml")
    lines = ["| value | default | meaning |\n", "|---|---|---|\n"]
    lines += [
        f"| `{path}` | `{json.dumps(default)}` | {meaning} |\n"
        for path, default, meaning in _rows(values, schema, schema["definitions"], "")
    ]
    return "".join(lines)


def _rows(
    values: Mapping[str, Any], schema: Mapping[str, Any], definitions: Mapping[str, Any], above: str
) -> Iterator[tuple[str, Any, str]]:
    for key, default in values.items():
        told = _resolved(schema["properties"][key], definitions)
        if isinstance(default, dict) and default and "properties" in told and key != "resources":
            yield from _rows(default, told, definitions, f"{above}{key}.")
        else:
            yield f"{above}{key}", default, told["description"].replace("|", "\\|").replace("<", "&lt;")


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with what it refers to written in; its own words come first."""
    whole: dict[str, Any] = {}
    for each in (schema, *schema.get("allOf", ())):
        if "$ref" in each:
            whole = {**definitions[each["$ref"].rpartition("/")[2]], **whole}
        whole = {**each, **whole}
    return whole


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "README.md").write_text(readme(folder), encoding="utf-8")
