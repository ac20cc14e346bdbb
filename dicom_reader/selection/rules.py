"""Rules that take or drop series, read from a YAML file and checked whole; imported where there are some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from dicom_reader.selection.conditions import Condition, StrictModel
from dicom_reader.selection.preferences import DEFAULT_PREFERENCES, Preference
from stages import SettingsError
from stages.runtime.logs import printable
from stages.runtime.validation import Mistake, mistakes


class Rule(StrictModel):
    """One rule: series that it takes, or series that it drops."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    take: Condition | None = None
    drop: Condition | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Rule:
        if (self.take is None) == (self.drop is None):
            raise ValueError("a rule has either take or drop")
        return self


class Rules(StrictModel):
    """The rules of a file or of the command line.

    Attributes
    ----------
    rules
        A series is dropped by the first drop rule that holds. Of the take rules, if there are any, one
        must hold; a series taken by an earlier one is preferred.
    prefer
        Which of several is the best; the first one that tells them apart decides.
    require
        What must hold besides: the arguments of the command line.
    """

    rules: tuple[Rule, ...] = ()
    prefer: Annotated[tuple[Preference, ...], Field(min_length=1)] = DEFAULT_PREFERENCES
    require: Condition | None = None

    def names(self, key: str) -> bool:
        """Return whether what takes a series names a key, so that its default rule is replaced.

        Parameters
        ----------
        key
            A key of a condition, such as "image_type".
        """
        if key != "series_uid" and self.names("series_uid"):
            return True
        wanted = [rule.take for rule in self.rules if rule.take is not None]
        return any(c.names(key) for c in (*wanted, *((self.require,) if self.require else ())))


def with_series(rules: Rules | None, uid: str) -> Rules:
    """Return rules that besides ask for one series.

    Parameters
    ----------
    rules
        What is asked for besides; None for the default rules.
    uid
        *Series Instance UID* (0020,000E).
    """
    rules = rules or Rules()
    wanted = Condition(series_uid=(uid,))
    require = Condition(all=(rules.require, wanted)) if rules.require else wanted
    return rules.model_copy(update={"require": require})


def read_rules(path: Path) -> Rules:
    """Read the rules of a YAML file.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    SettingsError
        If the file cannot be read, is no YAML, or has a key or a value that is none; every mistake is
        named with its place.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the rules {printable(path)}: {error.strerror}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise SettingsError(f"the rules {printable(path.name)} are no YAML: {problem}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"the rules {printable(path.name)} need the key 'rules', 'prefer' or both")
    return checked_rules(content, where=printable(path.name))


def checked_rules(content: Any, *, where: str) -> Rules:
    """Return rules from plain values.

    Parameters
    ----------
    content
        A mapping with the keys of `Rules`.
    where
        Names its source in messages.

    Raises
    ------
    SettingsError
        If there is a mistake; each is named with its place.
    """
    try:
        return Rules.model_validate(content)
    except ValidationError as error:
        found = mistakes(error.errors())
        told = [one for one in found if len(found) == 1 or not _has_mistake_inside(one, found)]
        sentences = (f"{'.'.join(map(str, one.place)) or 'rules'}: {one.message}" for one in told)
        raise SettingsError(f"{where}: {'; '.join(sentences)}") from error


def _has_mistake_inside(mistake: Mistake, every: Sequence[Mistake]) -> bool:
    """Return whether a list is too short for a mistake in it that is told by itself."""
    inside = (one.place[: len(mistake.place)] == mistake.place for one in every if one is not mistake)
    return mistake.type == "too_short" and any(inside)
