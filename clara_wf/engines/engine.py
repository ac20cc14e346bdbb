"""Ways to run one and the same workflow, and what they have in common.

An engine starts the stages of a job (`Engine.start`); `clara_wf.engines.watch` follows them to their
end, the same way for every engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from clara_wf.definitions.workflow import Step, Workflow
    from clara_wf.payload import Payload
    from stages.errors import StageError

ENGINES = ("process", "docker", "kubernetes")
NO_SERVER = "none"
"""Says that a job does without a model server."""

State: TypeAlias = Literal["starting", "pending", "waiting", "working", "done", "kept", "failed", "stopped"]
ENDED: frozenset[State] = frozenset({"done", "kept", "failed", "stopped"})


@dataclass(frozen=True, kw_only=True)
class JobRun:
    """A job that is to be run.

    Attributes
    ----------
    workflow
        The workflow.
    payload
        The job's folders.
    to_run
        The stages that have to run and why, by name; the others are kept as they are.
    triton_url
        ``host:port`` of the inference server as this machine sees it; None when there is none.
    timeout_s
        Replaces each stage's own timeout where given, seconds.
    environ
        The environment that local processes inherit.
    keep_going
        After a failure go on with the stages that do not depend on the one that failed.
    """

    workflow: Workflow
    payload: Payload
    to_run: Mapping[str, str]
    triton_url: str | None
    timeout_s: float | None
    environ: Mapping[str, str]
    keep_going: bool = False

    def limit_s(self, step: Step) -> float:
        """Return the timeout of a stage, seconds."""
        return self.timeout_s or step.block.timeout


class StageHandle(Protocol):
    """A stage that an engine has started."""

    def exit_code(self) -> int | None:
        """Return None while it runs, then its exit code; -N if signal N ended it."""

    def pending(self) -> str:
        """Return why it does not run yet, such as that no node is free; "" once it does."""

    def stop(self) -> None:
        """Ask it to end (SIGTERM)."""

    def kill(self) -> None:
        """End it, and whatever it started, at once; does nothing if it has ended."""

    def peak_memory_bytes(self) -> int:
        """Return the most memory it has had, bytes; 0 where that is not known."""

    def why_killed(self) -> StageError | None:
        """Return what is known of why it was ended, such as its memory limit; None for nothing."""


class StartedJob(Protocol):
    """The stages of a job that an engine has started."""

    @property
    def stages(self) -> Mapping[str, StageHandle]:
        """Every stage that was to run, by name."""

    @property
    def images(self) -> Mapping[str, str]:
        """The image of each stage with its digest; empty where there are no images."""

    def refresh(self) -> None:
        """Bring the payload's locks and what the handles tell up to date."""


class Engine(Protocol):
    """One way to run a workflow."""

    @property
    def name(self) -> str:
        """What ``--engine`` calls it."""

    def start(self, run: JobRun) -> AbstractContextManager[StartedJob]:
        """Start the stages that have to run; leaving the context leaves nothing of them behind."""

    def plan(self, run: JobRun) -> list[str]:
        """Return what would be run for a job, as lines that a person could type."""


@dataclass(kw_only=True)
class StageStatus:
    """How a stage of a running workflow is doing.

    Attributes
    ----------
    name
        The stage's name.
    state
        ``done`` as soon as its lock is there, though its process may take a while to end; ``pending`` while
        it was asked for and cannot run yet, such as for want of a node (`message` says why).
    seconds
        Time since all it waits for was there, until its lock was there or it ended.
    peak_memory_bytes
        Most resident memory seen so far.
    message
        Why it failed, why it is pending, or why it runs.
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
    engine
        The engine that ran it.
    images
        The image of each stage with its digest, where there are images.
    """

    statuses: tuple[StageStatus, ...]
    culprit: StageStatus | None
    engine: str
    images: Mapping[str, str]

    @property
    def exit_code(self) -> int:
        """0, or the exit code of the stage that failed first."""
        return 0 if self.culprit is None else self.culprit.exit_code or 1
