"""Choose series by rules, the same way every time, and say why each was taken or not.

The default rules drop what is no CT image, localizers, secondary captures and dose screens
(`dicom_reader.series`), derived series, and slices that are not about axial; of the rest they take
the primary one with most slices.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dicom_reader.facts import MAX_DEGREES_FROM_PLANE, Facts
from dicom_reader.patients import refuse_two_patients
from dicom_reader.series import Series
from stages import InputError

if TYPE_CHECKING:
    from dicom_reader.rules import Rules

logger = logging.getLogger(__name__)

BY_DEFAULT = "axial CT (default)"
DEFAULT_PREFERENCES = ("primary", "most-slices")
_HINT = "; --explain tells of each, and rules may take others"
_Default = tuple[str, str, Callable[[Facts], bool], str]
_DEFAULTS: tuple[_Default, ...] = (
    # name, the key of a rule that replaces it, whether it drops a series, and why
    ("derived", "image_type", lambda facts: "DERIVED" in facts.image_type, "derived"),
    (
        "not axial",
        "orientation",
        lambda facts: (facts.degrees_from("axial") or 0) > MAX_DEGREES_FROM_PLANE,  # unknown: for the gate
        f"more than {MAX_DEGREES_FROM_PLANE:.0f} degrees from axial",
    ),
)
_ORDER: Mapping[str, tuple[Callable[[Facts], float], str]] = {
    "primary": (lambda f: "PRIMARY" not in f.image_type, "not primary"),
    "most-slices": (lambda f: -f.slices, "fewer slices"),
    "fewest-slices": (lambda f: f.slices, "more slices"),
    "thinnest": (lambda f: round(f.spacing_mm or 1e9, 3), "wider spacing"),
    "thickest": (lambda f: -round(f.spacing_mm or 0, 3), "closer spacing"),
    "longest": (lambda f: -round(f.length_mm, 1), "shorter"),
    "newest": (lambda f: -_day(f), "older"),
    "oldest": (lambda f: _day(f) or 1e9, "newer"),
}


@dataclass(frozen=True)
class Verdict:
    """What became of one series.

    Attributes
    ----------
    state
        "taken"; "passed over" for a better one; "dropped" by a rule.
    rule
        The rule that took or dropped it.
    why
        In words; empty where it was taken and nothing needs to be said.
    """

    series: Series
    state: Literal["taken", "passed over", "dropped"]
    rule: str
    why: str = ""

    def __str__(self) -> str:
        if self.state == "taken":
            left_out = ", the latter left out" if self.series.kinds else ""
            because = f", {self.why}" if self.why else ""
            return f"chosen{because}: {self.series.what}{left_out}"
        return f"not chosen, {self.why}: {self.series.what}"


@dataclass(frozen=True)
class _Passing:
    series: Series
    facts: Facts
    priority: int
    rule: str


def _day(facts: Facts) -> int:
    return int(facts.date) if facts.date.isdecimal() else 0


def select_series(
    every: Sequence[Series], rules: Rules | None = None, *, take_all: bool = False
) -> list[Verdict]:
    """Judge each series; the taken ones come first, the best of them at the front.

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
    facts = series.facts
    if facts is None:
        kind = max(series.kinds, key=lambda kind: series.kinds[kind])
        return Verdict(series, "dropped", f"{kind} (default)", "no CT slices")
    for name, _, drops, why in defaults:
        if drops(facts):
            return Verdict(series, "dropped", f"{name} (default)", why)
    if rules is None:
        return _Passing(series, facts, 0, BY_DEFAULT)
    return _judge_by_rules(series, facts, rules)


def _judge_by_rules(series: Series, facts: Facts, rules: Rules) -> Verdict | _Passing:
    failure = rules.require.failure(facts) if rules.require else ""
    if failure:
        return Verdict(series, "dropped", "arguments", failure)
    for rule in rules.rules:
        if rule.drop is not None and not rule.drop.failure(facts):
            return Verdict(series, "dropped", rule.name, f"rule {rule.name!r}")
    takes = [rule for rule in rules.rules if rule.take is not None]
    failures = []
    for priority, rule in enumerate(takes):
        failures.append(rule.take.failure(facts) if rule.take else "")
        if not failures[-1]:
            return _Passing(series, facts, priority, rule.name)
    if takes:
        why = "; ".join(f"rule {r.name!r}: {f}" for r, f in zip(takes, failures, strict=True))
        return Verdict(series, "dropped", takes[-1].name, why)
    return _Passing(series, facts, 0, "arguments" if rules.require else BY_DEFAULT)


def _ranked(passing: list[_Passing], preferences: Sequence[str], take_all: bool) -> list[Verdict]:
    def merits(p: _Passing) -> tuple[float, ...]:
        return (p.priority, *(_ORDER[preference][0](p.facts) for preference in preferences))

    ranked = sorted(passing, key=lambda p: (*merits(p), p.series.uid, p.series.part))
    if not ranked:
        return []
    best = ranked[0]
    equal = sum(merits(p) == merits(best) for p in ranked) - 1
    tie = f"first of {equal + 1} that are equal by {', '.join(preferences)}, by its UID" if equal else ""
    verdicts = [Verdict(best.series, "taken", best.rule, "" if take_all else tie)]
    for p in ranked[1:]:
        if take_all:
            verdicts.append(Verdict(p.series, "taken", p.rule))
        else:
            verdicts.append(
                Verdict(p.series, "passed over", p.rule, _behind(merits(p), merits(best), preferences))
            )
    return verdicts


def _behind(found: Sequence[float], best: Sequence[float], preferences: Sequence[str]) -> str:
    """Say by what a series is not the best."""
    words = ["taken by a later rule", *(_ORDER[preference][1] for preference in preferences)]
    first = next((n for n, (a, b) in enumerate(zip(found, best, strict=True)) if a != b), None)
    return "equal, but of a later UID" if first is None else words[first]


def require_taken(verdicts: Sequence[Verdict], rules: Rules | None) -> list[Series]:
    """Return the series that were taken.

    Raises
    ------
    InputError
        If none was; the message says what was found instead. If those that pass are of two patients.
    """
    taken = [verdict.series for verdict in verdicts if verdict.state == "taken"]
    if taken:
        refuse_two_patients([verdict.series for verdict in verdicts if verdict.state != "dropped"])
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


def _instead(verdict: Verdict) -> str:
    if verdict.series.facts is None:
        return verdict.rule.removesuffix(" (default)")
    return "derived CT" if verdict.why == "derived" else f"CT {verdict.why}"


def log_choice(verdicts: Sequence[Verdict]) -> None:
    """Tell the log which series were taken; why each of the others was not stands in the volume's origin."""
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
