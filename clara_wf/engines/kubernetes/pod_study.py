"""A study that runs as the containers of one Pod, seen from the engine."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clara_wf.definitions.workflow import Step
from clara_wf.engines.engine import JobRun
from clara_wf.engines.kubernetes.cluster import Cluster, ClusterError, PodLostError, UnreachableError
from clara_wf.engines.kubernetes.pod_client import PodClient
from clara_wf.engines.kubernetes.pod_startup import BEFORE_IT_BEGAN, Startup
from clara_wf.engines.kubernetes.pod_state import (
    KILLED,
    TERMINATED,
    exit_codes,
    has_begun,
    has_ended,
    images_of,
    is_cut_off,
    is_going,
    why_container_failed,
    why_ended,
    why_job_ended,
    why_pod_ended,
)
from clara_wf.engines.kubernetes.study_job import StudyJob
from stages.errors import InferenceError, StageError, StageTimeoutError, TerminatedError
from stages.lifecycle import locks

logger = logging.getLogger(__name__)

MODEL_SERVER = "model-server"

_LOOK_S = 0.25
_UNREACHABLE_S = 60.0
_CUT_OFF_S = 20.0
_SHARED_GRACE_S = 5.0  # network file systems show new files late
_KILL_GRACE_S = 5.0
_CAUSE_S = 3.0
_STARTS = 3
_JOB_NAME = "job-name"


class PodStudy:
    """The stages of a Job's Pod; a Pod that is lost before a stage has begun is replaced by another.

    Parameters
    ----------
    cluster
        The cluster.
    run
        The job that is run.
    study_job
        Creates the Job.
    carries_payload
        Whether the job's files travel; False where the Pod sees them anyway.
    models
        A model repository that travels with them.
    """

    def __init__(
        self,
        cluster: Cluster,
        run: JobRun,
        study_job: StudyJob,
        *,
        carries_payload: bool,
        models: Path | None,
    ) -> None:
        self._cluster, self._run, self._study_job = cluster, run, study_job
        self._carries_payload, self._models = carries_payload, models
        self._watch = threading.Thread(target=self._watch_pod, name="watch of the Pod", daemon=True)
        self._stop = threading.Event()
        self._creating = threading.Lock()
        self._given_up = False
        self._lost: list[str] = []
        self._error: Exception | None = None
        self._forced: dict[str, int] = {}
        self._asked_to_end: set[str] = set()
        self._answered_at = time.monotonic()
        self.stages = {
            step.name: PodStage(self, step) for step in run.workflow.steps if step.name in run.to_run
        }
        self._begin(study_job.create())

    def _begin(self, job: str) -> None:
        """Start anew with a Job of which nothing is known yet."""
        self._job = job
        self._pod: dict[str, Any] | None = None
        self._gone: StageError | None = None
        self._trouble: Exception | None = None
        self._begun: set[str] = set()
        self._ended_at: dict[str, float] = {}
        self._startup = Startup(self._cluster, job, self._study_job.limits)
        self._client = PodClient(
            self._cluster,
            self._run,
            lambda: self._pod,
            carries_payload=self._carries_payload,
            models=self._models,
            fail=self._fail,
        )

    def __enter__(self) -> PodStudy:
        self._watch.start()
        self._client.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._client.end()
        self._stop.set()
        self._watch.join()
        try:
            self._cluster.delete_job(self._job)
        except ClusterError as error:
            logger.warning("the Job %s ends by itself, since it cannot be deleted: %s", self._job, error)
        self._client.close()
        self._client.join(_KILL_GRACE_S)

    @property
    def images(self) -> Mapping[str, str]:
        """The image of each stage with its digest."""
        known = images_of(self._pod) if self._pod else {}
        return {name: known[name] for name in (*self.stages, MODEL_SERVER) if name in known}

    def refresh(self) -> None:
        """Raise what nothing can be done about.

        Raises
        ------
        StageError
            If the Pod cannot run, the cluster does not answer, or the payload cannot be carried.
        """
        if self._error is not None:
            raise self._error

    def code_of(self, stage: str) -> int | None:
        """Return the exit code of a stage once all that it left is here; None before.

        Parameters
        ----------
        stage
            The stage's name.
        """
        if stage in self._forced:
            return self._forced[stage]
        code = exit_codes(self._pod).get(stage) if self._pod else None
        if code is None:
            return TERMINATED if self._gone else None
        return code if self._is_settled(stage) else None

    def pending(self, stage: str) -> str:
        """Return why a stage does not run yet; "" once it does.

        Parameters
        ----------
        stage
            The stage's name.
        """
        return "" if stage in self._begun else self._startup.state.text

    def memory_of(self, stage: str) -> int:
        """Return the most memory a stage has had, bytes.

        Parameters
        ----------
        stage
            The stage's name.
        """
        return self._client.memory.get(stage, 0)

    def why_ended(self, step: Step) -> StageError | None:
        """Return why a stage was ended, as far as the cluster knows."""
        if self._given_up:
            return None
        return (why_ended(self._pod, step) if self._pod else None) or self._gone or self._why_going()

    def signal(self, stage: str, number: signal.Signals) -> None:
        """Send a signal to a stage; where it cannot be reached, its Job is deleted.

        Parameters
        ----------
        stage, number
            The stage's name and the signal.
        """
        self._asked_to_end.add(stage)
        if self.pending(stage):
            self._forced[stage] = -number  # there is nothing to end; its Job is deleted when the others have
        elif self.code_of(stage) is None and not self._client.send_signal(stage, number):
            self.give_up(-number)

    def give_up(self, code: int) -> None:
        """Delete the Job, and take what has not ended yet for ended.

        Parameters
        ----------
        code
            The exit code that they get.
        """
        with self._creating:
            self._given_up = True
            self._cluster.delete_job(self._job)
        for name in self.stages:
            if self.code_of(name) is None:
                self._forced[name] = code

    def _fail(self, error: Exception) -> None:
        self._trouble = self._trouble or error

    def _is_settled(self, stage: str) -> bool:
        if self._was_ended_by_somebody(stage) and time.monotonic() - self._ended_at[stage] < _CAUSE_S:
            return False
        if stage in self._client.settled or not self._client.is_alive():
            return True
        lock_dir, name = self._run.payload.lock_dir, f"{stage}.lock"
        if not self._carries_payload:
            has_lock = (lock_dir / name).exists() or locks.failure_path(lock_dir, name).exists()
            return (
                has_lock or time.monotonic() - self._ended_at.get(stage, time.monotonic()) > _SHARED_GRACE_S
            )
        return bool(self._gone)

    def _was_ended_by_somebody(self, stage: str) -> bool:
        """Return whether a stage was stopped and the cluster has not said why; it does so a moment later."""
        failure = locks.read_failure(locks.failure_path(self._run.payload.lock_dir, f"{stage}.lock"))
        if self._given_up or stage in self._asked_to_end or stage not in self._ended_at or failure is None:
            return False
        known = self._gone or (why_pod_ended(self._pod) if self._pod else None)
        return failure.error == TerminatedError.__name__ and known is None

    def _watch_pod(self) -> None:
        while not self._stop.is_set():
            try:
                self._look()
                self._answered_at = time.monotonic()
                if self._trouble is not None:
                    self._start_again(self._trouble)
            except UnreachableError as error:
                if time.monotonic() - self._answered_at > _UNREACHABLE_S:
                    self._error = self._error or error
            except StageError as error:
                self._error = self._error or error
            self._stop.wait(_LOOK_S)

    def _start_again(self, trouble: Exception) -> None:
        """Replace a Pod that was lost by another; what another would not help against ends the study."""
        if not isinstance(trouble, PodLostError):
            self._error = self._error or trouble
            return
        if self._begun or why_job_ended(self._cluster.job(self._job)) is not None:
            self._error = self._error or ClusterError(f"{BEFORE_IT_BEGAN}: {trouble}")
            return
        node = (self._pod or {}).get("spec", {}).get("nodeName")
        self._lost.append(str(node or ""))
        if len(self._lost) >= _STARTS:
            raise ClusterError(f"{BEFORE_IT_BEGAN}, with {_STARTS} Pods one after the other: {trouble}")
        logger.warning("the study begins again with another Pod: %s", trouble)
        self._client.end()
        self._client.close()
        self._cluster.delete_job(self._job)
        with self._creating:
            if not self._given_up and not self._stop.is_set():
                self._begin(self._study_job.create(lost=sorted(filter(None, set(self._lost)))))
                self._client.start()

    def _look(self) -> None:
        if self._pod is None:
            pods = self._cluster.pods({_JOB_NAME: self._job})
            self._pod = min(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)
            self._look_at_start(self._pod)
            return
        metadata = self._pod["metadata"]
        pod = self._cluster.pod(metadata["name"])
        if pod is None or pod["metadata"]["uid"] != metadata["uid"]:
            self._is_gone(self._pod)
            return
        self._pod = pod
        self._begun |= {name for name in self.stages if has_begun(pod, name)}
        self._note_ends(pod)
        self._look_for_trouble(pod)

    def _look_at_start(self, pod: Mapping[str, Any] | None) -> None:
        """Watch the Pod on its way to running, until all its containers have begun."""
        if self._startup.state.kind == "running" or self._trouble is not None:
            return
        try:
            self._startup.look(pod)
        except UnreachableError:
            raise
        except StageError as error:
            self._fail(error)

    def _is_gone(self, last: Mapping[str, Any]) -> None:
        """Take note that the Pod is not there any more."""
        if self._given_up or self._gone is not None or self._trouble is not None:
            return
        why = why_pod_ended(last) or why_job_ended(self._cluster.job(self._job))
        why = why or ClusterError("its Pod was deleted")
        if self._begun:
            self._gone = why
        elif isinstance(why, StageTimeoutError):
            self._fail(StageTimeoutError(f"{BEFORE_IT_BEGAN}: {why}"))
        else:
            self._fail(PodLostError(str(why)))

    def _why_going(self) -> StageError | None:
        """Return why the Pod is being deleted, if it is."""
        if self._pod is None or not is_going(self._pod):
            return None
        return why_job_ended(self._cluster.job(self._job)) or ClusterError("its Pod was deleted")

    def _note_ends(self, pod: Mapping[str, Any]) -> None:
        new = {name for name in exit_codes(pod) if name in self.stages} - set(self._ended_at)
        if new:
            for name in new:
                self._keep_output(name, pod)
            self._ended_at.update(dict.fromkeys(new, time.monotonic()))
            self._client.request_sync(new)
        if self._begun and has_ended(pod) and set(self.stages) - set(exit_codes(pod)):
            self._is_gone(pod)

    def _keep_output(self, container: str, pod: Mapping[str, Any]) -> None:
        """Keep what a container printed if it has left no log file."""
        log = self._run.payload.log(container)
        if not log.is_file() or not log.stat().st_size:
            log.write_text(self._cluster.container_log(pod["metadata"]["name"], container), encoding="utf-8")

    def _look_for_trouble(self, pod: Mapping[str, Any]) -> None:
        self._look_at_start(pod)
        if MODEL_SERVER in exit_codes(pod) and not self._client.is_ending and not is_going(pod):
            self._keep_output(MODEL_SERVER, pod)
            why = why_container_failed(pod, MODEL_SERVER) or "it said nothing"
            self._fail(InferenceError(f"the model server has ended: {why}"))
        since = self._client.cut_off_since
        silent = since is not None and time.monotonic() - since > _CUT_OFF_S and not has_ended(pod)
        if silent and self._gone is None and is_cut_off(pod, self._cluster.nodes()):
            self._gone = ClusterError(f"its node {pod['spec'].get('nodeName')} was lost")


class PodStage:
    """A stage that runs as a container of a Pod."""

    def __init__(self, study: PodStudy, step: Step) -> None:
        self._study, self._step = study, step
        self._killed_at: float | None = None

    def exit_code(self) -> int | None:
        """Return None while it runs, and until all that it left is here."""
        return self._study.code_of(self._step.name)

    def pending(self) -> str:
        """Return what its Pod waits for before it runs, such as a node; "" once it does."""
        return self._study.pending(self._step.name)

    def stop(self) -> None:
        """Send SIGTERM."""
        self._study.signal(self._step.name, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL; where that does not help, delete its Job."""
        if self.exit_code() is not None:
            return
        if self._killed_at is None:
            self._killed_at = time.monotonic()
            self._study.signal(self._step.name, signal.SIGKILL)
        elif time.monotonic() - self._killed_at > _KILL_GRACE_S:
            self._study.give_up(KILLED)

    def peak_memory_bytes(self) -> int:
        """Return the most resident memory of its largest process."""
        return self._study.memory_of(self._step.name)

    def why_killed(self) -> StageError | None:
        """Return what the cluster knows of its end."""
        return self._study.why_ended(self._step)
