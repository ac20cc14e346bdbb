"""Print docs/reference/model.schema.json: the parameters of a model's config.pbtxt as a JSON schema."""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stages.model.description import ModelDescription
from stages.model.parameters import ModelParameters


def schema() -> dict[str, Any]:
    """Return the schema of an object that holds the value of each parameter."""
    made = ModelDescription.model_json_schema()
    for name, told in _described(inspect.getdoc(ModelParameters) or "").items():
        made["properties"][name]["description"] = told
    made["description"] = "Parameters of a model's config.pbtxt; there the value of each is a JSON text."
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _described(docstring: str) -> dict[str, str]:
    """Return what the section ``Attributes`` says of each name."""
    section = docstring.split("Attributes\n----------\n")[1]
    entries = re.findall(r"^(\w+(?:, \w+)*)\n((?:    .*\n?)+)", section, re.MULTILINE)
    return {
        name: " ".join(text.split()).replace("``", "`")
        for names, text in entries
        for name in names.split(", ")
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(schema(), indent=2) + "\n")
