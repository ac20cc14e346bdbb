"""Every series of a folder with the rule that took or dropped it, for people to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dicom_reader.selection.patients import refuse_two_patients
from dicom_reader.selection.select import Verdict
from stages import InputError


def explain(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield lines that tell of each series: what became of it, by which rule, and what it is.

    The series description is printed as it stands in the files; people write names into it, so these
    lines are for whoever asked, and never for a log.

    Parameters
    ----------
    verdicts
        Of every series of a folder, in the order of the lines.
    """
    taken = sum(verdict.state == "taken" for verdict in verdicts)
    yield f"{len(verdicts)} series, {taken} taken"
    for verdict in verdicts:
        yield f"{verdict.state:11}  {verdict.series.name}"
        yield f"    rule: {verdict.rule}{f' - {verdict.why}' if verdict.why else ''}"
        yield f"    {_described(verdict)}"
    try:
        refuse_two_patients([verdict.series for verdict in verdicts if verdict.state != "dropped"])
    except InputError as error:
        yield f"refused: {error}"


def _described(verdict: Verdict) -> str:
    attributes = verdict.series.attributes
    if attributes is None:
        return verdict.series.what
    spacing = "" if attributes.spacing_mm is None else f"{attributes.spacing_mm:.2f} mm apart"
    parts = [
        verdict.series.what,
        spacing,
        f"kernel {attributes.kernel}" if attributes.kernel else "",
        attributes.body_part,
        attributes.date,
        f'"{attributes.description}"' if attributes.description else "",
    ]
    return ", ".join(filter(None, parts))
