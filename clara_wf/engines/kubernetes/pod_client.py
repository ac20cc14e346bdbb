"""The engine's connection to the carrier of a study's Pod (`stages.pod.agent`)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clara_wf.engines.engine import JobRun
from clara_wf.engines.kubernetes.cluster import Cluster, PodLostError
from clara_wf.engines.kubernetes.pod_exec import PodExec
from clara_wf.engines.kubernetes.pod_files import DamagedError, PayloadWriter, send
from clara_wf.engines.kubernetes.pod_startup import RECEIVER
from clara_wf.engines.kubernetes.pod_state import (
    exit_codes,
    has_ended,
    is_going,
    is_running,
    why_container_failed,
)
from stages.errors import InputError, OutputError, StageError
from stages.pod.messages import HELLO, read_header, require_protocol, write_message

CARRIER = "carrier"
_CARRY = ("python", "-m", "stages", "carry")
_FOLDER = "/carry"
_TRIES = 3
_LOOK_S = 0.1
_AGAIN_S = 0.5
_NODE_SILENT_S = 20.0  # so long the node of a Pod may not answer before another is tried


class PodClient(threading.Thread):
    """Sends the payload into a Pod, then follows its stages until `end` is called.

    Parameters
    ----------
    cluster
        The cluster.
    run
        The job that is run.
    look
        Returns the Pod as it is now; None while there is none.
    carries_payload
        Whether the job's files travel; False where the Pod sees them anyway.
    models
        A model repository to send.
    fail
        Called with what cannot be repaired.
    """

    def __init__(
        self,
        cluster: Cluster,
        run: JobRun,
        look: Callable[[], Mapping[str, Any] | None],
        *,
        carries_payload: bool,
        models: Path | None,
        fail: Callable[[Exception], None],
    ) -> None:
        super().__init__(name="client of the carrier", daemon=True)
        self._cluster, self._run, self._look, self._fail = cluster, run, look, fail
        self._carries_payload, self._models = carries_payload, models
        self._files = PayloadWriter(run=run, on_synced=self._note_sync)
        self._ending = threading.Event()
        self._link: PodExec | None = None
        self._sync_requests: dict[int, set[str]] = {}
        self._lock = threading.Lock()
        self._damages = 0
        self.settled: set[str] = set()
        self.cut_off_since: float | None = None

    @property
    def memory(self) -> Mapping[str, int]:
        """The most memory of each container, bytes."""
        return self._files.memory

    @property
    def is_ending(self) -> bool:
        """Whether `end` was called."""
        return self._ending.is_set()

    def run(self) -> None:
        """Send and follow until the Pod has ended or `end` was called."""
        try:
            if (self._carries_payload or self._models) and self._until_runs(RECEIVER):
                self._send_payload()
            while not self._ending.is_set() and self._until_runs(CARRIER):
                self._follow()
                self._ending.wait(_AGAIN_S)
        except (StageError, OSError) as error:
            self._fail(error)
        except Exception as error:
            self._fail(error)
            raise

    def send_signal(self, stage: str, number: int) -> bool:
        """Have the carrier send a signal to a stage; return False if there is no connection to it.

        Parameters
        ----------
        stage, number
            The stage's name and the signal's number.
        """
        return self._send({"signal": int(number), "stage": stage})

    def request_sync(self, stages: set[str]) -> None:
        """Ask for everything that stages which have ended have left; `settled` grows when it is here.

        Parameters
        ----------
        stages
            The stages' names.
        """
        with self._lock:
            number = len(self._sync_requests) + 1
            self._sync_requests[number] = set(stages)
        self._send({"sync": number})

    def end(self) -> None:
        """End the connection; the carrier ends with it."""
        self._ending.set()
        self._send({"done": True})

    def close(self) -> None:
        """Break the connection."""
        self._ending.set()
        if self._link is not None:
            self._link.close()

    def _send(self, message: Mapping[str, Any]) -> bool:
        link = self._link
        if link is None:
            return False
        try:
            link.write(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def _note_sync(self, number: int) -> None:
        with self._lock:
            self.settled |= self._sync_requests.get(number, set())

    def _until_runs(self, container: str) -> bool:
        """Wait until a container of the Pod runs; return False if it never will."""
        while not self._ending.wait(_LOOK_S):
            pod = self._look()
            if pod is None:
                continue
            if is_running(pod, container):
                return True
            if has_ended(pod) or is_going(pod):
                return False
            if CARRIER in exit_codes(pod):
                why = why_container_failed(pod, CARRIER) or "it said nothing"
                raise OutputError(f"the carrier of the Pod has ended: {why}; try again")
        return False

    def _send_payload(self) -> None:
        """Send the payload; where that breaks off it is sent again from the start."""
        since = time.monotonic()
        refusals = tries = 0
        while True:
            problem, is_of_the_pod = self._send_once()
            if not problem:
                return
            tries, refusals = tries + 1, refusals + is_of_the_pod
            pod = self._look()
            if self._ending.wait(_AGAIN_S) or pod is None or has_ended(pod) or is_going(pod):
                return
            if not is_running(pod, RECEIVER) and why_container_failed(pod, RECEIVER) is None:
                return  # it got all of it; only the answer was lost
            if refusals >= _TRIES:
                raise OutputError(
                    f"the payload could not be sent into the Pod, tried {tries} times: {problem}"
                )
            if tries >= _TRIES and time.monotonic() - since > _NODE_SILENT_S:
                node = pod["spec"].get("nodeName")
                raise PodLostError(f"the payload could not be sent to node {node}: {problem}")

    def _send_once(self) -> tuple[str, bool]:
        """Send the payload; return what went wrong, "" for nothing, and whether the Pod itself says so."""
        problem = ""
        try:
            with self._start(RECEIVER, "put") as link:
                try:
                    write_message(link.write, HELLO)
                    _require_protocol(read_header(link.read))
                    send(link.write, self._run, self._models, payload=self._carries_payload)
                    if (read_header(link.read) or {}).get("received") is not None:
                        return "", False
                except ConnectionError as error:
                    problem = str(error)
                except OSError as error:
                    raise InputError(f"cannot read {error.filename}: {error.strerror or error}") from error
                said = link.said()
                return said or problem or "the connection to the Pod broke", bool(said)
        except (ConnectionError, InputError) as error:
            return str(error), isinstance(error, InputError)

    def _follow(self) -> None:
        """Take what the carrier sends until the connection ends."""
        known = [f"--have={stage}" for stage in sorted(self._files.fetched)]
        stages = [f"--stage={stage}" for stage in self._run.to_run] if self._carries_payload else []
        try:
            with self._start(CARRIER, "follow", *stages, *known) as link:
                link.write(json.dumps(HELLO).encode() + b"\n")
                _require_protocol(read_header(link.read))
                self._link, self.cut_off_since = link, None
                with self._lock:
                    unanswered = [n for n, asked in self._sync_requests.items() if not asked <= self.settled]
                for number in unanswered:
                    self._send({"sync": number})
                while (header := read_header(link.read)) is not None:
                    self._files.take(header, link.read)
        except DamagedError:
            self._damages += 1
            if self._damages >= _TRIES:
                raise
        except (ConnectionError, InputError):
            return  # the connection broke
        finally:
            self._link = None
            self.cut_off_since = self.cut_off_since or time.monotonic()

    def _start(self, container: str, what: str, *arguments: str) -> PodExec:
        pod = self._look()
        if pod is None:
            raise ConnectionError("the Pod is gone")
        name = pod["metadata"]["name"]
        return self._cluster.run_in(name, container, [*_CARRY, what, _FOLDER, *arguments])


def _require_protocol(hello: Mapping[str, Any] | None) -> None:
    if hello is not None:
        require_protocol(hello, of="the carrier of the Pod")
