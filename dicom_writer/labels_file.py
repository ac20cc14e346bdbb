"""A file of labels that users write for their model: what each voxel value means, in words and in codes.

YAML, or JSON, which is YAML too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from stages import SettingsError
from stages.labels import Code, Label

# Results keep the character set of their source, so that names are ASCII; a backslash parts values.
_ASCII = r"^[ -\[\]-~]+$"
_Short = Annotated[str, StringConstraints(max_length=16, pattern=_ASCII, strip_whitespace=True)]
_Long = Annotated[str, StringConstraints(max_length=64, pattern=_ASCII, strip_whitespace=True)]
_Text = Annotated[str, StringConstraints(max_length=1024, pattern=r"^[ -~]*$")]
_Part = Annotated[int, Field(ge=0, le=255)]


class _Code(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    value: _Short
    scheme: _Short = "SCT"
    meaning: _Long

    def as_code(self) -> Code:
        return Code(self.value, self.scheme, self.meaning)


_ANATOMY = _Code(value="123037004", meaning="Anatomical Structure")


class _Label(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    value: Annotated[int, Field(ge=1, le=255)]
    name: _Long
    description: _Text = ""
    category: _Code = _ANATOMY
    type: _Code
    region: _Code | None = None
    rgb: tuple[_Part, _Part, _Part]

    @field_validator("rgb", mode="before")
    @classmethod
    def _from_hex(cls, given: Any) -> Any:
        if isinstance(given, str) and given.startswith("#") and len(given) == 7:
            return tuple(bytes.fromhex(given[1:]))
        return given

    def as_label(self) -> Label:
        return Label(
            value=self.value,
            name=self.name,
            description=self.description,
            category=self.category.as_code(),
            type=self.type.as_code(),
            region=self.region.as_code() if self.region else None,
            rgb=self.rgb,
        )


class _LabelsFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: Annotated[list[_Label], Field(min_length=1)]

    @field_validator("labels")
    @classmethod
    def _told_apart(cls, labels: list[_Label]) -> list[_Label]:
        for attribute in ("value", "name"):
            seen = [getattr(label, attribute) for label in labels]
            twice = next((one for one in seen if seen.count(one) > 1), None)
            if twice is not None:
                raise ValueError(f"two labels have the {attribute} {twice!r}")
        return labels


def read_labels(path: str | Path) -> tuple[Label, ...]:
    """Return the labels of a file, by rising value.

    Raises
    ------
    SettingsError
        If it cannot be read, is no YAML, or a label is incomplete or wrong; the message says where.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    path = Path(path)
    try:
        stored = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        found = _LabelsFile.model_validate(stored)
    except OSError as error:
        raise SettingsError(f"cannot read the labels {path}: {error.strerror or error}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"the labels {path} are no YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        problems = "; ".join(_problem(detail) for detail in error.errors()[:5])
        raise SettingsError(f"the labels {path}: {problems}") from error
    return tuple(sorted((label.as_label() for label in found.labels), key=lambda label: label.value))


def _problem(detail: Any) -> str:
    where = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in detail["loc"])
    return f"{where.removeprefix('.') or 'top'}: {detail['msg']}"
