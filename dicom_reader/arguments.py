"""The reader's options, and the rules they stand for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_reader.series.attributes import MAX_DEGREES_FROM_PLANE

if TYPE_CHECKING:
    from dicom_reader.selection.rules import Rules

_TEXTS = {
    "modality": ("WORD", "modality (0008,0060)"),
    "sop-class": ("UID", "SOP class (0008,0016)"),
    "image-type": ("WORD", "a value of the image type (0008,0008), or 'any'"),
    "rescale-type": ("WORD", "rescale type (0028,1054), or 'any'; HU by default"),
    "photometric": ("WORD", "photometric interpretation (0028,0004), or 'any'; grey by default"),
    "description": ("REGEX", "found in the series description (0008,103E)"),
    "kernel": ("REGEX", "found in the convolution kernel (0018,1210)"),
    "body-part": ("WORD", "body part examined (0018,0015)"),
    "series": ("UID", "series instance UID (0020,000E)"),
}
_NOT = ("image-type", "description", "kernel", "body-part")
_RANGES = {
    "slices": (int, "N", "slices"),
    "spacing": (float, "MM", "millimetres between slices"),
}
_KEYS = {"series": "series_uid", "spacing": "spacing_mm"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options.

    Parameters
    ----------
    parser
        Of the command line.
    """
    parser.add_argument("--select", type=Path, metavar="FILE", help="rules that take or drop series, YAML")
    parser.add_argument(
        "--all", action="store_true", help="write every series that passes, not only the best"
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="print every series with the rule that took or dropped it; without --output write nothing",
    )
    parser.add_argument(
        "--fill-missing",
        type=_count,
        default=0,
        metavar="N",
        help="interpolate up to N missing slices in a row (default: refuse the series)",
    )
    parser.add_argument(
        "--merge-series",
        action="store_true",
        help="read images of one study and place as one series where each has a series UID of its own",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse the input where it warns that slices may be missing or were left out",
    )
    rules = parser.add_argument_group("what the series must be, besides the rules of --select")
    for name, (metavar, help_text) in _TEXTS.items():
        rules.add_argument(f"--{name}", action="append", metavar=metavar, help=help_text)
    for name in _NOT:
        rules.add_argument(
            f"--not-{name}", action="append", metavar=_TEXTS[name][0], help=f"not such a {name}"
        )
    for name, (kind, metavar, unit) in _RANGES.items():
        rules.add_argument(f"--min-{name}", type=kind, metavar=metavar, help=f"at least so many {unit}")
        rules.add_argument(f"--max-{name}", type=kind, metavar=metavar, help=f"at most so many {unit}")
    rules.add_argument(
        "--orientation", choices=("axial", "coronal", "sagittal", "any"), help="plane of the slices"
    )
    rules.add_argument(
        "--within-degrees",
        type=float,
        metavar="DEGREES",
        help=f"how far from it, or from axial, they may be (default: {MAX_DEGREES_FROM_PLANE:.0f})",
    )
    rules.add_argument("--date-from", metavar="YYYY-MM-DD", help="acquired on this day or later")
    rules.add_argument("--date-to", metavar="YYYY-MM-DD", help="acquired on this day or earlier")


def rules_of(arguments: argparse.Namespace) -> Rules | None:
    """Return the rules that the options stand for; None where there are none.

    Parameters
    ----------
    arguments
        As parsed by a parser of `add_arguments`.

    Raises
    ------
    SettingsError
        If a file or a value cannot be used; the message names file and key.
    """
    required = _required(vars(arguments))
    if not (required or arguments.select):
        return None
    from dicom_reader.selection.rules import Rules, checked_rules, read_rules  # takes 0.1 s

    rules = read_rules(arguments.select) if arguments.select else Rules()
    if not required:
        return rules
    checked = checked_rules({"require": {"all": required}}, where="arguments")
    return rules.model_copy(update={"require": checked.require})


def _required(given: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one condition for each option that was given."""
    found: list[dict[str, Any]] = []
    for name in _TEXTS:
        key, values = _KEYS.get(name, name.replace("-", "_")), given.get(name.replace("-", "_")) or []
        if name in ("description", "kernel"):
            found += [{key: value} for value in values]
        elif values:
            found.append({key: values})
    for name in _NOT:
        key = name.replace("-", "_")
        found += [{"not": {key: value}} for value in given.get(f"not_{key}") or []]
    for name in _RANGES:
        limits = {end: given[f"{end}_{name}"] for end in ("min", "max") if given[f"{end}_{name}"] is not None}
        found += [{_KEYS.get(name, name): limits}] if limits else []
    dates = {end: given[f"date_{end}"] for end in ("from", "to") if given[f"date_{end}"]}
    found += [{"date": dates}] if dates else []
    if given["orientation"] or given["within_degrees"] is not None:
        plane = {"plane": given["orientation"] or "axial"}
        degrees = given["within_degrees"]
        found.append({"orientation": plane if degrees is None else {**plane, "within_degrees": degrees}})
    return found


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected a number of slices, 0 or more, found {text!r}")
    return int(text)
