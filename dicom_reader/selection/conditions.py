"""What must hold of a series: conditions that are checked when they are made, and say why they fail.

A condition is a mapping; all of its keys must hold. ``all``, ``any`` and ``not`` combine conditions.
docs/reference/select.md lists the keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from dicom_reader.series.attributes import MAX_DEGREES_FROM_PLANE, SeriesAttributes

_MAX_PATTERN = 500


def _as_list(value: object) -> object:
    return [value] if isinstance(value, (str, int)) else value


def _pattern(text: str) -> str:
    if len(text) > _MAX_PATTERN:
        raise ValueError(f"a regular expression has at most {_MAX_PATTERN} characters")
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from error
    return text


def _day(value: object) -> object:
    text = str(value).replace("-", "")
    if not re.fullmatch(r"(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])", text):
        raise ValueError("a date is written as YYYY-MM-DD")
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
Words = Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)]
Day = Annotated[str, BeforeValidator(_day)]


class StrictModel(BaseModel):
    """A mapping that is refused where it has a key that is none."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Range(StrictModel):
    """A smallest and a largest value; either may be left out."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is more than max {self.max:g}")
        return self

    def holds(self, value: float | None) -> bool:
        """Return whether a value is known and lies inside.

        Parameters
        ----------
        value
            None where it is unknown.
        """
        if value is None:
            return False
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)

    def __str__(self) -> str:
        low = "" if self.min is None else f"at least {self.min:g}"
        high = "" if self.max is None else f"at most {self.max:g}"
        return " and ".join(filter(None, (low, high)))


class Dates(StrictModel):
    """A first and a last day; either may be left out."""

    first: Annotated[Day | None, Field(alias="from")] = None
    last: Annotated[Day | None, Field(alias="to")] = None

    @model_validator(mode="after")
    def _given(self) -> Dates:
        if self.first is None and self.last is None:
            raise ValueError("give from, to or both")
        return self

    def holds(self, date: str) -> bool:
        """Return whether a date is known and lies inside.

        Parameters
        ----------
        date
            YYYYMMDD; empty where it is unknown.
        """
        return bool(date) and (self.first or "") <= date <= (self.last or "99999999")

    def __str__(self) -> str:
        return " ".join(f"{word} {day}" for word, day in (("from", self.first), ("to", self.last)) if day)


class Orientation(StrictModel):
    """A plane of the patient, and how far from it slices may be."""

    plane: Literal["axial", "coronal", "sagittal", "any"]
    within_degrees: Annotated[float, Field(ge=0, le=90)] = MAX_DEGREES_FROM_PLANE

    def holds(self, attributes: SeriesAttributes) -> bool:
        """Return whether slices lie near the plane.

        Parameters
        ----------
        attributes
            Of the series.
        """
        if self.plane == "any":
            return True
        degrees = attributes.degrees_from(self.plane)
        return degrees is not None and degrees <= self.within_degrees

    def __str__(self) -> str:
        return "any" if self.plane == "any" else f"{self.plane} within {self.within_degrees:g} degrees"


def _as_orientation(value: object) -> object:
    return {"plane": value} if isinstance(value, str) else value


class Condition(StrictModel):
    """What must hold of a series; a key that is left out says nothing."""

    modality: Words | None = None
    sop_class: Words | None = None
    image_type: Words | None = None
    rescale_type: Words | None = None
    photometric: Words | None = None
    description: Pattern | None = None
    orientation: Annotated[Orientation | None, BeforeValidator(_as_orientation)] = None
    slices: Range | None = None
    spacing_mm: Range | None = None
    kernel: Pattern | None = None
    body_part: Words | None = None
    date: Dates | None = None
    series_uid: Words | None = None
    all: Annotated[tuple[Condition, ...], Field(min_length=1)] | None = None
    any: Annotated[tuple[Condition, ...], Field(min_length=1)] | None = None
    not_: Annotated[Condition | None, Field(alias="not")] = None

    @model_validator(mode="after")
    def _not_empty(self) -> Condition:
        if not self.model_fields_set:
            raise ValueError("a condition without a key would take everything")
        return self

    def failure(self, attributes: SeriesAttributes) -> str:
        """Return the first thing that does not hold of a series, in words; empty where all holds.

        Parameters
        ----------
        attributes
            Of the series.
        """
        return next((words for words in _failures(self, attributes) if words), "")

    def names(self, key: str) -> bool:
        """Return whether a key is used, here or further inside.

        Parameters
        ----------
        key
            A key of a condition, such as "image_type".
        """
        inside = (*(self.all or ()), *(self.any or ()), *((self.not_,) if self.not_ else ()))
        return getattr(self, key) is not None or any(condition.names(key) for condition in inside)


def _failures(condition: Condition, attributes: SeriesAttributes) -> Iterator[str]:
    """Yield what each key says: empty where it holds, else why not."""
    yield from _failures_of_words(condition, attributes)
    yield from _failures_of_geometry(condition, attributes)
    yield from (inner.failure(attributes) for inner in condition.all or ())
    if condition.any:
        failures = [inner.failure(attributes) for inner in condition.any]
        yield "none of: " + "; ".join(failures) if all(failures) else ""
    if condition.not_ is not None and not condition.not_.failure(attributes):
        yield "what is excluded by 'not' holds"


def _failures_of_words(c: Condition, attributes: SeriesAttributes) -> Iterator[str]:
    one_of = {
        "modality": (c.modality, attributes.modality),
        "sop_class": (c.sop_class, attributes.sop_class),
        "body_part": (c.body_part, attributes.body_part),
        "series_uid": (c.series_uid, attributes.uid),
        "rescale_type": (c.rescale_type, attributes.rescale_type),
        "photometric": (c.photometric, attributes.photometric),
    }
    for key, (wanted, found) in one_of.items():
        if wanted == ("any",) and key in ("rescale_type", "photometric"):
            continue
        if wanted is not None and found.upper() not in [word.upper() for word in wanted]:
            yield f"{key} is {found or 'missing'}, not {' or '.join(wanted)}"
    if c.image_type is not None and c.image_type != ("any",):
        lacking = [value for value in c.image_type if value.upper() not in attributes.image_type]
        yield f"image_type has no {lacking[0]}" if lacking else ""
    patterns = {
        "description": (c.description, attributes.description),
        "kernel": (c.kernel, attributes.kernel),
    }
    for key, (pattern, text) in patterns.items():
        if pattern is not None and not re.search(pattern, text):
            yield f"{key} does not match {pattern!r}"


def _failures_of_geometry(c: Condition, attributes: SeriesAttributes) -> Iterator[str]:
    if c.orientation is not None and not c.orientation.holds(attributes):
        yield f"orientation is not {c.orientation}"
    if c.slices is not None and not c.slices.holds(attributes.slices):
        yield f"{attributes.slices} slices, not {c.slices}"
    if c.spacing_mm is not None and not c.spacing_mm.holds(attributes.spacing_mm):
        found = "unknown" if attributes.spacing_mm is None else f"{attributes.spacing_mm:.2f} mm"
        yield f"spacing is {found}, not {c.spacing_mm}"
    if c.date is not None and not c.date.holds(attributes.date):
        yield f"date is not {c.date}"
