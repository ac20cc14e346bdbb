"""What the labels of a mask mean: the one type, for models, masks and everything that is made of them.

A model says it in its ``config.pbtxt`` (``label_meanings``), the stage that makes a mask writes it into the
volume's JSON beside it, and every result, page, picture and table takes names, codes and colours from there.
A label without a meaning is refused where it would be written, never guessed.

References
----------
DICOM PS3.3 C.8.20.4, Segment Description; PS3.16 CID 7150, Segmentation Property Category; CID 7151 and
CID 7159, Segmentation Property Types.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import permutations
from typing import Annotated, Any, ClassVar, get_type_hints

from stages.errors import InputError

_LONGEST_SHOWN = 80
_ASCII = re.compile(r"[ -\[\]-~]*")
_FORBID: Mapping[str, Any] = {"extra": "forbid", "coerce_numbers_to_str": True}


@dataclass(frozen=True)
class _Checked:
    """A condition on a field, held when an object is made, and told by pydantic at the field's own place."""

    problem: Callable[[Any], str | None]

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core.core_schema import no_info_after_validator_function

        return no_info_after_validator_function(self.checked, handler(source))

    def checked(self, value: Any) -> Any:
        problem = self.problem(value)
        if problem:
            raise ValueError(problem)
        return value


def _text(most: int, *, least: int = 1) -> _Checked:
    def problem(text: str) -> str | None:
        if least <= len(text) <= most and text.strip() == text and _ASCII.fullmatch(text):
            return None
        return (
            f"expected {least} to {most} printable ASCII characters, no backslash, no blanks around "
            f"(results keep the character set of their source), found {_shown(text)}"
        )

    return _Checked(problem)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")


_SCHEMES = {
    **{scheme.lower(): scheme for scheme in ("SCT", "DCM", "SRT", "FMA", "LN", "RADLEX", "UMLS", "UCUM")},
    **dict.fromkeys(("snomed", "snomed-ct", "snomedct", "snomed ct"), "SCT"),
}


def _scheme(designator: str) -> str | None:
    """Return what is wrong with a designator that only resembles one of PS3.16 (8-1); None if nothing."""
    right = _SCHEMES.get(designator.lower(), designator)
    return None if right == designator else f"expected the designator {right!r}, found {designator!r}"


def _in_range(first: int, last: int) -> _Checked:
    return _Checked(lambda n: None if first <= n <= last else f"expected {first} to {last}, found {n}")


def _colour(rgb: Sequence[int]) -> str | None:
    right = len(rgb) == 3 and all(0 <= part <= 255 for part in rgb)
    return None if right else f"expected three numbers from 0 to 255, found {list(rgb)}"


_ShortText = Annotated[str, _text(16)]  # as SH
_LongText = Annotated[str, _text(64)]  # as LO


def _hold_conditions(made: Any) -> None:
    """Raise a ValueError that names all fields whose condition does not hold."""
    found = []
    for name, kind in get_type_hints(type(made), include_extras=True).items():
        for condition in getattr(kind, "__metadata__", ()):
            problem = condition.problem(getattr(made, name))
            found += [f"{name}: {problem}"] if problem else []
    if found:
        raise ValueError("; ".join(found))


@dataclass(frozen=True)
class Code:
    """A coded concept: *Code Value* (0008,0100), *Coding Scheme Designator* (0008,0102), *Code Meaning*.

    Attributes
    ----------
    value
        At most 16 characters.
    scheme
        At most 16 characters; ``SCT`` is SNOMED CT, ``DCM`` the standard's own.
    meaning
        *Code Meaning* (0008,0104), at most 64 characters.

    Raises
    ------
    ValueError
        If a part is empty, too long, or not printable ASCII without a backslash; if the scheme is another
        spelling of a known one, or a value of SNOMED CT holds anything but digits.
    """

    value: _ShortText
    scheme: Annotated[_ShortText, _Checked(_scheme)] = "SCT"
    meaning: _LongText = ""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _FORBID

    def __post_init__(self) -> None:
        _hold_conditions(self)
        if self.scheme == "SCT" and not self.value.isdigit():
            raise ValueError(f"value: a code of SNOMED CT (SCT) has digits only, found {_shown(self.value)}")


_LESION_CATEGORIES = (("SCT", "49755003"), ("SRT", "M-01000"))  # the second as older files have it
ANATOMICAL_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What one label stands for.

    Attributes
    ----------
    name
        *Segment Label* (0062,0005), at most 64 characters.
    type
        *Segmented Property Type Code Sequence* (0062,000F).
    rgb
        Colour for display, sRGB, 0 to 255; written as *Recommended Display CIELab Value* (0062,000D).
    description
        *Segment Description* (0062,0006), at most 1024 characters.
    category
        *Segmented Property Category Code Sequence* (0062,0003).
    region
        *Anatomic Region Sequence* (0008,2218); None where the type says it already.
    modifier
        Such as the side of the body: *Segmented Property Type Modifier Code Sequence* (0062,0011), or where
        there is a region *Anatomic Region Modifier Sequence* (0008,2220); None where there is none.

    Raises
    ------
    ValueError
        If a text cannot stand in every result: it is empty, too long, or not printable ASCII without a
        backslash, which parts values in DICOM; or a number is out of range.
    """

    name: _LongText
    type: Code
    rgb: Annotated[tuple[int, int, int], _Checked(_colour)]
    description: Annotated[str, _text(1024, least=0)] = ""
    category: Code = ANATOMICAL_STRUCTURE
    region: Code | None = None
    modifier: Code | None = None

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _FORBID

    def __post_init__(self) -> None:
        _hold_conditions(self)

    @property
    def marks_lesions(self) -> bool:
        """Whether it marks lesions, which are counted and measured one by one."""
        return (self.category.scheme, self.category.value) in _LESION_CATEGORIES

    @property
    def drawn_rgb(self) -> tuple[int, int, int]:
        """The colour in which it is drawn on a grey image: its own, or none that is grey."""
        red, green, blue = self.rgb
        if max(self.rgb) - min(self.rgb) >= 16:
            return red, green, blue
        return red, green, (0 if blue > 127 else 255)


@dataclass(frozen=True, kw_only=True)
class Label(Meaning):
    """What one voxel value of a mask means.

    Attributes
    ----------
    value
        The voxel value, 1 to 255.
    """

    value: Annotated[int, _in_range(1, 255)]

    def same_thing(self, other: Meaning) -> bool:
        """Return whether two labels mark the same thing, whatever their values, names and colours are.

        Parameters
        ----------
        other
            The meaning to compare with, by its codes.
        """
        return _concept(self) == _concept(other)


def _concept(meaning: Meaning) -> tuple[tuple[str, str], ...]:
    codes = (meaning.type, meaning.region, meaning.modifier)
    return tuple((code.scheme, code.value) for code in codes if code)


def labels_of(meanings: Mapping[int, Meaning]) -> tuple[Label, ...]:
    """Return meanings by label value as labels, by rising value.

    Parameters
    ----------
    meanings
        What each label value, 1 to 255, stands for.

    Raises
    ------
    ValueError
        If a value is not from 1 to 255.
    """
    return tuple(Label(value=value, **_fields(meaning)) for value, meaning in sorted(meanings.items()))


def _fields(meaning: Meaning) -> dict[str, Any]:
    return {field.name: getattr(meaning, field.name) for field in fields(Meaning)}


def spoken_of(
    values: Collection[int],
    own: Iterable[Label],
    *,
    stated: Iterable[Label] = (),
    otherwise: Iterable[Label] = (),
) -> tuple[tuple[Label, ...], tuple[int, ...]]:
    """Return the labels that are spoken of, and those values among them that nobody gave a meaning to.

    These are the labels that the model can give, whether or not a voxel has them, and no others.

    Parameters
    ----------
    values
        Which labels the model can give; empty where nobody said, and then those that have a meaning.
    own
        What the mask says of its labels.
    stated
        What takes precedence over it, label by label.
    otherwise
        What stands in where the mask does not say it.
    """
    own, stated, otherwise = tuple(own), tuple(stated), tuple(otherwise)
    meanings = {label.value: label for label in (*otherwise, *own, *stated)}
    wanted = sorted(set(values) or {label.value for label in own or stated or otherwise})
    named = tuple(meanings[value] for value in wanted if value in meanings)
    return named, tuple(value for value in wanted if value not in meanings)


def require_named(labels: Sequence[Label], nameless: Sequence[int], *, model: str = "") -> None:
    """Raise unless each label that is spoken of has a meaning and a name of its own, and there is one.

    Parameters
    ----------
    labels
        The labels that are spoken of.
    nameless
        Values among those spoken of that have no meaning.
    model
        Name of the model, for the message.

    Raises
    ------
    InputError
        If not, or if two have the same name, or one that of a lesion of the other; the message says where
        to say it.
    """
    if nameless or not labels:
        raise InputError(f"{nameless_text(nameless)}; {where_to_say(model)}")
    names = [label.name for label in labels]
    for name in sorted({name for name in names if names.count(name) > 1}):
        twice = ", ".join(str(label.value) for label in labels if label.name == name)
        raise InputError(f"labels {twice} of the mask are all called {name!r}; {where_to_say(model)}")
    for label, other in permutations(labels, 2):
        if label.marks_lesions and re.fullmatch(re.escape(label.name) + r" [1-9][0-9]*", other.name):
            raise InputError(
                f"label {other.value} of the mask is called {other.name!r}, as a lesion of label "
                f"{label.value} ({label.name!r}) would be; {where_to_say(model)}"
            )


def nameless_text(values: Sequence[int]) -> str:
    """Return in words that labels have no meaning.

    Parameters
    ----------
    values
        The labels' values; none where no label is known at all.
    """
    if not values:
        return "nobody said what the labels of the mask mean"
    listed = f"label {values[0]}" if len(values) == 1 else f"labels {', '.join(map(str, values))}"
    return f"nobody said what {listed} of the mask {'means' if len(values) == 1 else 'mean'}"


def where_to_say(model: str = "") -> str:
    """Return where the meaning of a label is said.

    Parameters
    ----------
    model
        Name of the model, where it is known.
    """
    config = f"the config.pbtxt of model {model!r}" if model else "the model's config.pbtxt"
    return (
        f"say it as label_meanings in {config}, as labels of the workflow in values.yaml, or in a file of "
        "labels (dicom-writer --labels FILE)"
    )
