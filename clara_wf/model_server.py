"""A real Triton on this machine for a model repository, when no server is configured.

References
----------
Open Inference Protocol (KServe V2), HTTP: https://github.com/kserve/open-inference-protocol.
Triton model repository extension: ``extension_model_repository.md`` of triton-inference-server/server.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clara_wf import model_server_guard
from clara_wf.model_server_install import Installation, assemble_backends, install
from clara_wf.model_server_platform import ELSEWHERE, ModelServerError, UnsupportedPlatformError

__all__ = ["ModelServer", "ModelServerError", "UnsupportedPlatformError", "serve"]

logger = logging.getLogger(__name__)

_BACKENDS = Path(__file__).parent / "triton_backends"
_LOOPBACK = "127.0.0.1"
_PORT_ATTEMPTS = 5
_POLL_S = 0.02
_STOP_DEADLINE_S = 15.0
_SMALL_SHARED_MEMORY = 256 * 2**20
_LAST_LINES = 15
_ERROR_LINE = re.compile(r"^(E\d+|\[libprotobuf ERROR) [^\]]*\] \"?(.*?)\"?$", re.MULTILINE)
_PYTHON_SETTINGS = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONUSERBASE")


class _PortTakenError(Exception):
    """Another program took a port between its choice and the server's start."""


@dataclass(frozen=True, kw_only=True)
class ModelServer:
    """A running server.

    Attributes
    ----------
    grpc_url, http_url
        ``127.0.0.1:PORT`` of its two endpoints.
    models
        What it serves.
    log
        Its output.
    """

    grpc_url: str
    http_url: str
    models: tuple[str, ...]
    log: Path
    _guard: subprocess.Popen[bytes] = field(repr=False, compare=False)

    def check(self) -> None:
        """Return if the server is alive.

        Raises
        ------
        ModelServerError
            If it has ended, with the end of its log.
        """
        if self._guard.poll() is not None:
            raise ModelServerError(f"the model server has ended; the end of {self.log}:\n{_tail(self.log)}")


@contextmanager
def serve(
    repository: Path,
    *,
    models: Sequence[str] | None = None,
    cache: Path,
    log: Path,
    on_progress: Callable[[str], None],
    ready_timeout_s: float = 600.0,
    environ: Mapping[str, str] = os.environ,
) -> Iterator[ModelServer]:
    """Serve models until the block ends; the server never outlives this process.

    Parameters
    ----------
    repository
        A Triton model repository: ``<model>/config.pbtxt`` and ``<model>/1/model.onnx``.
    models
        What to serve; default: every model of the repository.
    cache
        Where the server is installed the first time.
    log
        File for the server's output; overwritten.
    on_progress
        Called with a line for the user before what takes a while.
    ready_timeout_s
        Longest time for the models to load, seconds.
    environ
        Environment of the server; its search path for programs and its Python settings are replaced.

    Raises
    ------
    ModelServerError
        If the server does not run on this machine, or a model cannot be served, with the server's reason.
    """
    names = _models_to_serve(repository, models)
    installation = install(cache, on_progress=on_progress, environ=environ)
    model_server_guard.sweep()
    _mention_small_shared_memory(on_progress)
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    command = _command(installation, repository.resolve(), names)
    server = _start(command, log, names, _server_environ(environ, installation), ready_timeout_s)
    try:
        logger.info("serving %s at %s after %.1f s", names, server.grpc_url, time.monotonic() - started)
        yield server
    finally:
        _stop(server._guard)


def _models_to_serve(repository: Path, models: Sequence[str] | None) -> tuple[str, ...]:
    found = tuple(sorted(path.parent.name for path in repository.glob("*/config.pbtxt")))
    if not found:
        raise ModelServerError(
            f"no model in {repository}; put one there (<model>/config.pbtxt and <model>/1/model.onnx), "
            f"{ELSEWHERE}"
        )
    for name in models or ():
        if name not in found:
            raise ModelServerError(f"no model {name!r} in {repository}; it has {', '.join(found)}")
    return found if models is None else tuple(models)


def _command(installation: Installation, repository: Path, models: Sequence[str]) -> list[str]:
    return [
        str(installation.tritonserver),
        f"--backend-directory={assemble_backends(installation, _BACKENDS)}",
        f"--model-repository={repository}",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in models),
        "--disable-auto-complete-config",
        "--exit-on-error=false",  # so that it can be asked why a model did not load
        "--allow-metrics=false",
        "--backend-config=python,stub-timeout-seconds=120",
    ]


def _server_environ(environ: Mapping[str, str], installation: Installation) -> dict[str, str]:
    """Return the environment by which the server's stubs find their own Python, and no other's packages."""
    kept = {key: value for key, value in environ.items() if key not in _PYTHON_SETTINGS}
    path = [str(installation.python_bin), environ.get("PATH", os.defpath)]
    kept |= {"PATH": os.pathsep.join(path), "PYTHONNOUSERSITE": "1"}
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        kept["CUDA_VISIBLE_DEVICES"] = ""
    return kept


def _start(
    command: Sequence[str], log: Path, models: tuple[str, ...], environ: Mapping[str, str], timeout_s: float
) -> ModelServer:
    for _ in range(_PORT_ATTEMPTS):
        http_port, grpc_port = _free_ports(2)
        name = model_server_guard.new_name()
        endpoints = [
            *(f"--http-address={_LOOPBACK}", f"--http-port={http_port}"),
            *(f"--grpc-address={_LOOPBACK}", f"--grpc-port={grpc_port}"),
            *(f"--id={name}", f"--backend-config=python,shm-region-prefix-name={name}-"),
        ]
        server = ModelServer(
            grpc_url=f"{_LOOPBACK}:{grpc_port}",
            http_url=f"{_LOOPBACK}:{http_port}",
            models=models,
            log=log,
            _guard=_spawn_guard(name, [*command, *endpoints], log, environ),
        )
        try:
            _wait_until_ready(server, name, timeout_s)
        except _PortTakenError:
            _stop(server._guard)
        except BaseException:
            _stop(server._guard)
            raise
        else:
            return server
    raise ModelServerError(
        f"found no free ports for the model server in {_PORT_ATTEMPTS} attempts; try again"
    )


def _spawn_guard(
    name: str, command: Sequence[str], log: Path, environ: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    script = model_server_guard.__file__
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", script, name, str(os.getpid()), str(log.resolve()), *command],
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C is for this process, which then ends the guard
        )


def _stop(guard: subprocess.Popen[bytes]) -> None:
    """Let the guard end the server and wait until it has."""
    assert guard.stdin is not None
    guard.stdin.close()
    try:
        guard.wait(_STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        guard.kill()  # takes the server with it
        guard.wait()
    finally:
        model_server_guard.sweep()


def _wait_until_ready(server: ModelServer, name: str, timeout_s: float) -> None:
    """Return when this server, and no other at its port, has loaded its models."""
    deadline = time.monotonic() + timeout_s
    while not _answers_as(server, name):
        if server._guard.poll() is not None:
            if "already in use" in server.log.read_text(errors="replace"):
                raise _PortTakenError
            server.check()
        if time.monotonic() > deadline:
            raise ModelServerError(
                f"the model server did not become ready within {timeout_s:g} s; the end of {server.log}:\n"
                f"{_tail(server.log)}"
            )
        time.sleep(_POLL_S)
    _check_models(server)


def _check_models(server: ModelServer) -> None:
    """Return if every model is ready; the endpoints are opened when loading has ended."""
    index = {model["name"]: model for model in _ask(server, "POST", "/v2/repository/index")}
    for name in server.models:
        model = index.get(name, {})
        if model.get("state") != "READY":
            reason = model.get("reason", "").partition("\n\nAt:\n")[0] or _reason_in(server.log, name)
            raise ModelServerError(
                f"the model server could not load model {name!r}: {reason} (its log: {server.log})"
            )


def _reason_in(log: Path, model: str) -> str:
    """Return what the log says of a model that the server does not even list."""
    errors = _ERROR_LINE.findall(log.read_text(errors="replace"))
    reasons = [text for kind, text in errors if kind == "[libprotobuf ERROR" or f"'{model}'" in text]
    return "; ".join(reasons) or "it gave no reason"


def _answers_as(server: ModelServer, name: str) -> bool:
    answer = _ask(server, "GET", "/v2")
    return isinstance(answer, dict) and answer.get("name") == name


def _ask(server: ModelServer, method: str, path: str) -> Any:
    """Return the server's JSON answer; an empty one while it does not answer."""
    connection = http.client.HTTPConnection(server.http_url, timeout=10)
    try:
        connection.request(method, path)
        return json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()


def _free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((_LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _mention_small_shared_memory(say: Callable[[str], None]) -> None:
    """Say when windows may not fit: containers have 64 MB of shared memory unless told otherwise."""
    place = model_server_guard.SHARED_MEMORY
    free = shutil.disk_usage(place).free
    if free < _SMALL_SHARED_MEMORY:
        say(
            f"{place} has only {free / 2**20:.0f} MB free, and the model server passes its tensors there; "
            f"in a container give it more (docker run --shm-size=2g)"
        )


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
