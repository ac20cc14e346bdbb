"""Ways to run one and the same workflow, and what they have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["starting", "waiting", "working", "done", "kept", "failed", "stopped"]
ENDED: frozenset[State] = frozenset({"done", "kept", "failed", "stopped"})


@dataclass(kw_only=True)
class StageStatus:
    """How a stage of a running workflow is doing.

    Attributes
    ----------
    seconds
        Time since all it waits for was there, until it ended.
    peak_memory_bytes
        Most resident memory seen so far.
    message
        Why it failed, or why it runs.
    exit_code
        Of a stage that ended, as `stages.errors` has them.
    """

    name: str
    state: State = "starting"
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    message: str = ""
    exit_code: int | None = None


Progress: TypeAlias = Callable[[list[StageStatus]], None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a workflow ended.

    Attributes
    ----------
    statuses
        One entry a stage, in the workflow's order.
    culprit
        The stage that failed first; None when all succeeded.
    """

    statuses: tuple[StageStatus, ...]
    culprit: StageStatus | None

    @property
    def exit_code(self) -> int:
        """0, or the exit code of the stage that failed first."""
        return 0 if self.culprit is None else self.culprit.exit_code or 1
