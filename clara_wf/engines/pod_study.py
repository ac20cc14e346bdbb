"""A study that runs as the containers of one Pod, seen from the engine."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clara_wf.engines import JobRun
from clara_wf.engines.cluster import Cluster, UnreachableError
from clara_wf.engines.pod_carrier import Talk
from clara_wf.engines.pod_state import (
    KILLED,
    TERMINATED,
    exit_codes,
    has_ended,
    images_of,
    is_cut_off,
    is_going,
    last_words,
    missing_gpus,
    refusal,
    why_ended,
    why_unschedulable,
)
from clara_wf.workflow import Step
from stages import locks
from stages.errors import InferenceError, SettingsError

logger = logging.getLogger(__name__)

MODEL_SERVER = "model-server"

_LOOK_S = 0.25
_UNREACHABLE_S = 60.0
_CUT_OFF_S = 20.0
_SHARED_GRACE_S = 5.0  # network file systems show new files late
_KILL_GRACE_S = 5.0
_SCHEDULING_S = 600.0
_MOUNT_S = 20.0
_JOB_NAME = "job-name"


class Study:
    """The stages of a Job's Pod.

    Parameters
    ----------
    job
        Name of the Job.
    carries_payload
        Whether the job's files travel; False where the Pod sees them anyway.
    models
        A model repository that travels with them.
    """

    def __init__(
        self, cluster: Cluster, run: JobRun, job: str, *, carries_payload: bool, models: Path | None
    ) -> None:
        self._cluster, self._run, self._job = cluster, run, job
        self._carries_payload = carries_payload
        self._talk = Talk(
            cluster,
            run,
            lambda: self._pod,
            carries_payload=carries_payload,
            models=models,
            fail=self._fail,
        )
        self._watch = threading.Thread(target=self._look_on, name="watch of the Pod", daemon=True)
        self._stop = threading.Event()
        self._pod: dict[str, Any] | None = None
        self._gone_why = ""
        self._error: Exception | None = None
        self._forced: dict[str, int] = {}
        self._ended_at: dict[str, float] = {}
        self._began = self._answered_at = time.monotonic()
        self.stages = {
            step.name: PodStage(self, step) for step in run.workflow.steps if step.name in run.to_run
        }

    def __enter__(self) -> Study:
        self._watch.start()
        self._talk.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._talk.end()
        self._stop.set()
        self._watch.join()
        try:
            self._cluster.delete_job(self._job)
        except UnreachableError as error:
            logger.warning("the Job %s ends by itself, since it cannot be deleted: %s", self._job, error)
        self._talk.close()
        self._talk.join(_KILL_GRACE_S)

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
        """Return the exit code of a stage once all that it left is here; None before."""
        if stage in self._forced:
            return self._forced[stage]
        code = exit_codes(self._pod).get(stage) if self._pod else None
        if code is None:
            return TERMINATED if self._gone_why else None
        return code if self._is_settled(stage) else None

    def memory_of(self, stage: str) -> int:
        """Return the most memory a stage has had, bytes."""
        return self._talk.memory.get(stage, 0)

    def why_ended(self, step: Step) -> str:
        """Return why a signal ended a stage, as far as the cluster knows."""
        return (why_ended(self._pod, step) if self._pod else "") or self._gone_why

    def signal(self, stage: str, number: signal.Signals) -> None:
        """Send a signal to a stage; where it cannot be reached, its Job is deleted."""
        if self.code_of(stage) is None and not self._talk.send_signal(stage, number):
            self.give_up(-number)

    def give_up(self, code: int) -> None:
        """Delete the Job, and take what has not ended yet for ended."""
        self._cluster.delete_job(self._job)
        for name in self.stages:
            if self.code_of(name) is None:
                self._forced[name] = code

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error

    def _is_settled(self, stage: str) -> bool:
        if stage in self._talk.settled or not self._talk.is_alive():
            return True
        lock_dir, name = self._run.payload.lock_dir, f"{stage}.lock"
        if not self._carries_payload:
            told = (lock_dir / name).exists() or locks.failure_path(lock_dir, name).exists()
            return told or time.monotonic() - self._ended_at.get(stage, time.monotonic()) > _SHARED_GRACE_S
        return bool(self._gone_why)

    def _look_on(self) -> None:
        while not self._stop.is_set():
            try:
                self._look()
                self._answered_at = time.monotonic()
            except UnreachableError as error:
                if time.monotonic() - self._answered_at > _UNREACHABLE_S:
                    self._fail(error)
            except SettingsError as error:
                self._fail(error)
            self._stop.wait(_LOOK_S)

    def _look(self) -> None:
        if self._pod is None:
            pods = self._cluster.pods({_JOB_NAME: self._job})
            self._pod = min(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)
            refused = "" if self._pod else self._cluster.event("Job", self._job, "FailedCreate")
            if refused:
                self._fail(SettingsError(f"the cluster makes no Pod for the study: {refused}"))
            return
        metadata = self._pod["metadata"]
        pod = self._cluster.pod(metadata["name"])
        if pod is None or pod["metadata"]["uid"] != metadata["uid"]:
            self._gone_why = self._gone_why or why_gone(self._pod)
            return
        self._pod = pod
        self._note_ends(pod)
        self._look_for_trouble(pod)

    def _note_ends(self, pod: Mapping[str, Any]) -> None:
        new = {name for name in exit_codes(pod) if name in self.stages} - set(self._ended_at)
        if new:
            for name in new:
                self._keep_output(name, pod)
            self._ended_at.update(dict.fromkeys(new, time.monotonic()))
            self._talk.ask_for_rest(new)
        if has_ended(pod) and set(self.stages) - set(exit_codes(pod)):
            self._gone_why = self._gone_why or why_gone(pod)

    def _keep_output(self, container: str, pod: Mapping[str, Any]) -> None:
        """Keep what a container printed if it has left no log file."""
        log = self._run.payload.log(container)
        if not log.is_file() or not log.stat().st_size:
            log.write_text(self._cluster.container_log(pod["metadata"]["name"], container), encoding="utf-8")

    def _look_for_trouble(self, pod: Mapping[str, Any]) -> None:
        refused = refusal(pod)
        if refused is not None:
            self._fail(refused)
        if MODEL_SERVER in exit_codes(pod) and not self._talk.is_ending and not is_going(pod):
            self._keep_output(MODEL_SERVER, pod)
            self._fail(InferenceError(f"the model server has ended: {last_words(pod, MODEL_SERVER)}"))
        waits = why_unschedulable(pod)
        if waits:
            self._look_for_nodes(pod, waits)
        elif pod["status"].get("phase") == "Pending" and time.monotonic() - self._began > _MOUNT_S:
            self._look_for_mounts(pod)
        since = self._talk.cut_off_since
        silent = since is not None and time.monotonic() - since > _CUT_OFF_S and not has_ended(pod)
        if silent and is_cut_off(pod, self._cluster.nodes()):
            self._gone_why = f"its node {pod['spec'].get('nodeName')} was lost"

    def _look_for_mounts(self, pod: Mapping[str, Any]) -> None:
        said = self._cluster.event("Pod", pod["metadata"]["name"], "FailedMount")
        if said:
            self._fail(
                SettingsError(f"the Pod of the study cannot have its storage: {' '.join(said.split())}")
            )

    def _look_for_nodes(self, pod: Mapping[str, Any], waits: str) -> None:
        nodes = self._cluster.nodes()
        missing = missing_gpus(pod, nodes) if nodes is not None else ""
        if "persistentvolumeclaim" in waits and "not found" in waits:
            self._fail(SettingsError(f"{waits}; name a claim of the namespace in CLARA_PAYLOAD_CLAIM"))
        elif missing:
            self._fail(
                SettingsError(
                    f"{missing}; set gpu: false in values.yaml, or add a node with its device plug-in"
                )
            )
        elif time.monotonic() - self._began > _SCHEDULING_S:
            self._fail(SettingsError(f"no node has taken the study for {_SCHEDULING_S:g} s: {waits}"))


def why_gone(pod: Mapping[str, Any]) -> str:
    """Return why a Pod is not there any more."""
    if pod["status"].get("reason") == "Evicted":
        return "its Pod was evicted"
    return "its Pod was deleted"


class PodStage:
    """A stage that runs as a container of a Pod."""

    def __init__(self, study: Study, step: Step) -> None:
        self._study, self._step = study, step
        self._killed_at: float | None = None

    def exit_code(self) -> int | None:
        """Return None while it runs, and until all that it left is here."""
        return self._study.code_of(self._step.name)

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

    def why_killed(self) -> str:
        """Return what the cluster knows of its end."""
        return self._study.why_ended(self._step)
