"""Series chosen by rules, the same way every time, and why each was taken or not.

The default rules drop what is no CT image, localizers, secondary captures and dose screens
(`dicom_reader.series.image_types`), derived images, values that are no Hounsfield units, and slices that
are not about axial; of the rest they take the first by the default preferences.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from dicom_reader.selection.patients import refuse_two_patients
from dicom_reader.selection.preferences import DEFAULT_PREFERENCES, ORDER, TIE_BREAKERS, Preference
from dicom_reader.series.attributes import MAX_DEGREES_FROM_PLANE, SeriesAttributes
from dicom_reader.series.merge import refuse_single_image_series
from dicom_reader.series.series import Series
from stages import InputError

if TYPE_CHECKING:
    from dicom_reader.selection.rules import Rules

logger = logging.getLogger(__name__)

_NOT_AXIAL = f"more than {MAX_DEGREES_FROM_PLANE:.0f} degrees from axial"
BY_DEFAULT = "axial CT (default)"
_HINT = "; --explain tells of each, and rules may take others"
_Default = tuple[str, str, Callable[[SeriesAttributes], str]]
_DEFAULTS: tuple[_Default, ...] = (
    # name, the key of a rule that replaces it, and why it drops a series; empty where it does not
    ("derived", "image_type", lambda attributes: "derived" if attributes.pixels.is_derived else ""),
    ("units", "rescale_type", lambda attributes: _why_no_hounsfield_units(attributes)),
    (
        "colour",
        "photometric",
        lambda attributes: (
            f"in {attributes.pixels.colour} instead of grey values" if attributes.pixels.colour else ""
        ),
    ),
    ("not axial", "orientation", lambda attributes: _NOT_AXIAL if not _is_about_axial(attributes) else ""),
)


@dataclass(frozen=True)
class Verdict:
    """What became of one series.

    Attributes
    ----------
    series
        The series.
    state
        "taken"; "passed over" for a better one; "dropped" by a rule.
    rule
        The rule that took or dropped it.
    why
        In words; empty where it was taken and nothing needs to be said.
    is_undecided
        Whether it is one of several that are equal in all that decides; none of them is read then.
    """

    series: Series
    state: Literal["taken", "passed over", "dropped"]
    rule: str
    why: str = ""
    is_undecided: bool = False

    def __str__(self) -> str:
        if self.state == "taken":
            left_out = ", the latter left out" if self.series.kinds or self.series.excluded else ""
            because = f", {self.why}" if self.why else ""
            return f"chosen{because}: {self.series.what}{left_out}"
        return f"not chosen, {self.why}: {self.series.what}"


@dataclass(frozen=True)
class _Passing:
    series: Series
    attributes: SeriesAttributes
    priority: int
    rule: str
    is_beside_plain: bool = False
    """Whether acquired slices in Hounsfield units of the same series pass as well, and this is none."""


def _why_no_hounsfield_units(attributes: SeriesAttributes) -> str:
    if attributes.pixels.units:
        return f"in {attributes.pixels.units} instead of Hounsfield units"
    if not any(map(attributes.text, ("RescaleSlope", "RescaleIntercept"))):
        return "without a rescale to Hounsfield units"
    return ""


def _is_about_axial(attributes: SeriesAttributes) -> bool:
    return (
        attributes.degrees_from("axial") or 0
    ) <= MAX_DEGREES_FROM_PLANE  # unknown: for the gate to refuse


def select_series(
    every: Sequence[Series], rules: Rules | None = None, *, take_all: bool = False
) -> list[Verdict]:
    """Return what becomes of each series; the taken ones come first, the best of them at the front.

    Parameters
    ----------
    every
        All series.
    rules
        Besides the default ones, if any. A rule that asks for an image type or an orientation replaces the
        default rule about it.
    take_all
        Take all that pass, not only the best.
    """
    defaults = [default for default in _DEFAULTS if rules is None or not rules.names(default[1])]
    dropped: list[Verdict] = []
    passing: list[_Passing] = []
    for series in every:
        judged = _judge(series, rules, defaults)
        if isinstance(judged, Verdict):
            dropped.append(judged)
        else:
            passing.append(judged)
    preferences = rules.prefer if rules else DEFAULT_PREFERENCES
    return [*_ranked(passing, preferences, take_all), *dropped]


def _judge(series: Series, rules: Rules | None, defaults: Sequence[_Default]) -> Verdict | _Passing:
    attributes = series.attributes
    if attributes is None:
        kind = max(series.kinds, key=lambda kind: series.kinds[kind])
        return Verdict(series, "dropped", f"{kind} (default)", "no CT slices")
    for name, _, why_not in defaults:
        if why := why_not(attributes):
            return Verdict(series, "dropped", f"{name} (default)", why)
    if rules is None:
        return _Passing(series, attributes, 0, BY_DEFAULT)
    return _judge_by_rules(series, attributes, rules)


def _judge_by_rules(series: Series, attributes: SeriesAttributes, rules: Rules) -> Verdict | _Passing:
    failure = rules.require.failure(attributes) if rules.require else ""
    if failure:
        return Verdict(series, "dropped", "arguments", failure)
    for rule in rules.rules:
        if rule.drop is not None and not rule.drop.failure(attributes):
            return Verdict(series, "dropped", rule.name, f"rule {rule.name!r}")
    takes = [rule for rule in rules.rules if rule.take is not None]
    failures = []
    for priority, rule in enumerate(takes):
        failures.append(rule.take.failure(attributes) if rule.take else "")
        if not failures[-1]:
            return _Passing(series, attributes, priority, rule.name)
    if takes:
        why = "; ".join(f"rule {r.name!r}: {f}" for r, f in zip(takes, failures, strict=True))
        return Verdict(series, "dropped", takes[-1].name, why)
    return _Passing(series, attributes, 0, "arguments" if rules.require else BY_DEFAULT)


def _ranked(passing: list[_Passing], preferences: Sequence[Preference], take_all: bool) -> list[Verdict]:
    plain = {p.series.uid for p in passing if p.attributes.pixels.is_plain}
    passing = [
        replace(p, is_beside_plain=p.series.uid in plain and not p.attributes.pixels.is_plain)
        for p in passing
    ]
    merits = _merits(preferences)
    ranked = sorted(passing, key=lambda p: (*(merit(p) for merit, _ in merits), p.series.order))
    if not ranked:
        return []
    best = ranked[0]
    why, is_undecided = ("", False) if take_all else _tie(ranked, merits, preferences)
    verdicts = [Verdict(best.series, "taken", best.rule, why, is_undecided)]
    for p in ranked[1:]:
        if take_all:
            verdicts.append(Verdict(p.series, "taken", p.rule))
        else:
            equals = is_undecided and all(merit(p) == merit(best) for merit, _ in merits)
            verdicts.append(Verdict(p.series, "passed over", p.rule, _behind(p, best, merits), equals))
    return verdicts


_Merit = tuple[Callable[[_Passing], float], str]


def _merits(preferences: Sequence[Preference]) -> list[_Merit]:
    """Return what ranks the series that pass, the least being the best, and why another is behind."""

    def of_attributes(merit: Callable[[SeriesAttributes], float]) -> Callable[[_Passing], float]:
        return lambda p: merit(p.attributes)

    by_preference = [ORDER[preference] for preference in preferences]
    return [
        (lambda p: p.priority, "taken by a later rule"),
        (lambda p: p.is_beside_plain, "set apart from the acquired slices of its series"),
        *((of_attributes(merit), why) for merit, why in by_preference),
        *((of_attributes(merit), why) for merit, _, why in TIE_BREAKERS),
    ]


def _tie(
    ranked: Sequence[_Passing], merits: Sequence[_Merit], preferences: Sequence[Preference]
) -> tuple[str, bool]:
    """Return what decided between series that preferences find equal, in words, and if nothing did."""
    best = ranked[0]

    def equal_by(some: Sequence[_Merit]) -> list[_Passing]:
        return [p for p in ranked if all(merit(p) == merit(best) for merit, _ in some)]

    equal = equal_by(merits[: -len(TIE_BREAKERS)])
    if len(equal) == 1:
        return "", False
    is_undecided = any(p.series.uid != best.series.uid for p in equal_by(merits))
    decisive = (what for merit, what, _ in TIE_BREAKERS if len({merit(p.attributes) for p in equal}) > 1)
    by = next(decisive, "nothing" if is_undecided else "being the first part of the series")
    return f"first of {len(equal)} that are equal by {', '.join(preferences)}, by {by}", is_undecided


def _behind(p: _Passing, best: _Passing, merits: Sequence[_Merit]) -> str:
    """Return by what a series is not the best, in words."""
    return next((why for merit, why in merits if merit(p) != merit(best)), "equal in all that decides")


def require_taken(verdicts: Sequence[Verdict], rules: Rules | None) -> list[Series]:
    """Return the series that were taken.

    Parameters
    ----------
    verdicts
        Of every series.
    rules
        Those that they were judged by.

    Raises
    ------
    InputError
        If none was; the message says what was found instead. If those that pass are of two patients,
        seem to be one series with a UID for each image, or are equal in all that decides.
    """
    taken = [verdict.series for verdict in verdicts if verdict.state == "taken"]
    if taken:
        candidates = [verdict.series for verdict in verdicts if verdict.state != "dropped"]
        refuse_two_patients(candidates)
        refuse_single_image_series(candidates)
        _refuse_undecided(verdicts)
        return taken
    count = f"{len(verdicts)} series: "
    if rules is None or (rules.require is None and not rules.rules):
        found = Counter(_instead(verdict) for verdict in verdicts)
        raise InputError(
            "no axial CT series in the input folder; found "
            + count
            + ", ".join(f"{n} {what}" for what, n in found.most_common())
            + _HINT
        )
    reasons = Counter(verdict.rule for verdict in verdicts)
    raise InputError(
        "no series of the input folder passes the rules; of "
        + count
        + ", ".join(f"{n} dropped by {rule}" for rule, n in reasons.most_common())
        + _HINT
    )


def _refuse_undecided(verdicts: Sequence[Verdict]) -> None:
    names = [verdict.series.name[:80] for verdict in verdicts if verdict.is_undecided]
    if names:
        raise InputError(
            f"series {' and '.join(names[:2])}{_more(len(names) - 2)} are equal in all that decides, also in "
            "series number and time of acquisition; name one with --series, or by a rule"
        )


def _more(count: int) -> str:
    return f" (and {count} more)" if count > 0 else ""


def _instead(verdict: Verdict) -> str:
    if verdict.series.attributes is None:
        return verdict.rule.removesuffix(" (default)")
    return "derived CT" if verdict.series.attributes.pixels.is_derived else f"CT {verdict.why}"


def log_choice(verdicts: Sequence[Verdict]) -> None:
    """Log which series were taken; why each of the others was not stands in the volume's origin.

    Parameters
    ----------
    verdicts
        Of every series.
    """
    others = []
    for verdict in verdicts:
        if verdict.state == "taken":
            logger.info("series %s %s", verdict.series.name, verdict)
        else:
            others.append(verdict)
            logger.debug("series %s %s", verdict.series.name[:80], verdict)
    if others:
        reasons = Counter(str(verdict).partition(":")[0] for verdict in others)
        logger.info("other series: %s", ", ".join(f"{n} {why}" for why, n in reasons.most_common()))
