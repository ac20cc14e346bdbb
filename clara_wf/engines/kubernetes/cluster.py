"""A Kubernetes cluster, as far as the engine needs it: plain objects in and out, errors in one line."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from clara_wf.engines.kubernetes.pod_exec import PodExec
from stages.errors import SettingsError, StageError

Object: TypeAlias = dict[str, Any]

_REQUEST_S = 15.0
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_NOT_THERE = 404
_NOT_ALLOWED = (401, 403)
_BUSY = (409, 429, 500, 502, 503, 504)
_MOST_LOG_LINES, _MOST_LOG_BYTES = 5000, 4 << 20
_LONGEST_ANSWER = 1000
_USED_UP = "exceeded quota"


class ClusterError(StageError):
    """The cluster could not do it now, though nothing is wrong with what it was asked to do."""

    retryable = True


class UnreachableError(ClusterError):
    """The cluster does not answer."""


class PodLostError(ClusterError):
    """The Pod of a study was lost before a stage of it began, so that another may take its place."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A connection to a cluster; close it after use.

    Attributes
    ----------
    client
        A `kubernetes.client.ApiClient`.
    namespace
        Where everything of the engine lives.
    """

    client: Any
    namespace: str

    @classmethod
    @contextmanager
    def connect(cls, environ: Mapping[str, str]) -> Iterator[Cluster]:
        """Connect as ``KUBECONFIG`` says, or as the Pod that this program runs in.

        ``CLARA_KUBE_CONTEXT`` and ``CLARA_NAMESPACE`` choose another context or namespace.

        Raises
        ------
        SettingsError
            If there is no cluster to connect to, or the client library is missing.
        """
        try:
            from kubernetes import client as api
        except ImportError as error:
            raise SettingsError(
                "the Kubernetes client is missing; install it with `pip install kubernetes`"
            ) from error
        configuration, namespace = _configuration(environ)
        configuration.retries = False
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        client = api.ApiClient(configuration)
        try:
            yield cls(client=client, namespace=environ.get("CLARA_NAMESPACE") or namespace)
        finally:
            client.rest_client.pool_manager.clear()

    @property
    def host(self) -> str:
        """Where its API is."""
        return str(urlsplit(self.client.configuration.host).netloc)

    def version(self) -> str:
        """Return the version of its API server, such as ``v1.31.2``."""
        from kubernetes.client import VersionApi

        return str(self._ask("read the version", VersionApi, "get_code", scoped=False)["gitVersion"])

    def create(self, manifest: Mapping[str, Any]) -> Object:
        """Create a Job, Pod, Service or NetworkPolicy.

        Parameters
        ----------
        manifest
            What is to be made.
        """
        from kubernetes.client import BatchV1Api, CoreV1Api, NetworkingV1Api

        kind = manifest["kind"]
        api, noun = {
            "Job": (BatchV1Api, "job"),
            "NetworkPolicy": (NetworkingV1Api, "network_policy"),
            "Pod": (CoreV1Api, "pod"),
            "Service": (CoreV1Api, "service"),
        }[kind]
        return self._ask(f"create a {kind}", api, f"create_namespaced_{noun}", body=dict(manifest))

    def pod(self, name: str) -> Object | None:
        """Return a Pod; None if there is none of this name.

        Parameters
        ----------
        name
            The Pod's name.
        """
        from kubernetes.client import CoreV1Api

        return self._find("read a Pod", CoreV1Api, "read_namespaced_pod", name)

    def pods(self, labels: Mapping[str, str]) -> list[Object]:
        """Return the Pods with these labels.

        Parameters
        ----------
        labels
            Labels that they have.
        """
        from kubernetes.client import CoreV1Api

        return self._list("list the Pods", CoreV1Api, "list_namespaced_pod", labels)

    def jobs(self, labels: Mapping[str, str]) -> list[Object]:
        """Return the Jobs with these labels.

        Parameters
        ----------
        labels
            Labels that they have.
        """
        from kubernetes.client import BatchV1Api

        return self._list("list the Jobs", BatchV1Api, "list_namespaced_job", labels)

    def job(self, name: str) -> Object | None:
        """Return a Job; None if there is none of this name.

        Parameters
        ----------
        name
            The Job's name.
        """
        from kubernetes.client import BatchV1Api

        selector = f"metadata.name={name}"
        found = self._ask("list the Jobs", BatchV1Api, "list_namespaced_job", field_selector=selector)
        return next(iter(found["items"]), None)

    def delete_job(self, name: str) -> None:
        """Delete a Job and, soon after, its Pods and what else it owns.

        Parameters
        ----------
        name
            The Job's name.
        """
        from kubernetes.client import BatchV1Api

        with _nothing_there():
            self._ask(
                "delete a Job",
                BatchV1Api,
                "delete_namespaced_job",
                name=name,
                body={"propagationPolicy": "Background"},
            )

    def delete_pod(self, name: str, *, grace_s: int) -> None:
        """Delete a Pod.

        Parameters
        ----------
        name
            The Pod's name.
        grace_s
            Seconds that its processes have to end by themselves.
        """
        from kubernetes.client import CoreV1Api

        with _nothing_there():
            self._ask(
                "delete a Pod",
                CoreV1Api,
                "delete_namespaced_pod",
                name=name,
                body={"gracePeriodSeconds": grace_s},
            )

    def has_service(self, name: str) -> bool:
        """Return whether the namespace has a Service of this name.

        Parameters
        ----------
        name
            The Service's name.
        """
        from kubernetes.client import CoreV1Api

        return self._find("read a Service", CoreV1Api, "read_namespaced_service", name) is not None

    def event(self, kind: str, name: str, reason: str) -> str:
        """Return what the last event of a thing with this reason says; "" if there is none to be seen.

        Parameters
        ----------
        kind, name
            Such as ``Pod`` and the thing's name.
        reason
            The reason that the event has, such as ``FailedScheduling``.
        """
        from kubernetes.client import CoreV1Api

        selector = f"involvedObject.kind={kind},involvedObject.name={name},reason={reason}"
        try:
            found = self._ask("list the events", CoreV1Api, "list_namespaced_event", field_selector=selector)
        except SettingsError:
            return ""
        return next((str(event.get("message", "")) for event in reversed(found["items"])), "")

    def nodes(self) -> list[Object] | None:
        """Return the nodes; None if one may not look at them."""
        from kubernetes.client import CoreV1Api

        try:
            found = self._ask("list the nodes", CoreV1Api, "list_node", scoped=False)
        except SettingsError:
            return None
        return list(found["items"])

    def container_log(self, pod: str, container: str) -> str:
        """Return the end of what a container printed; "" if that is gone.

        Parameters
        ----------
        pod, container
            The Pod's name and the container's name.
        """
        from kubernetes.client import CoreV1Api
        from kubernetes.client.exceptions import ApiException

        try:
            answer = CoreV1Api(self.client).read_namespaced_pod_log(
                pod,
                self.namespace,
                container=container,
                tail_lines=_MOST_LOG_LINES,
                limit_bytes=_MOST_LOG_BYTES,
                _preload_content=False,
                _request_timeout=_REQUEST_S,
            )
            return bytes(answer.read()).decode("utf-8", errors="replace")
        except (ApiException, OSError):
            return ""

    def run_in(self, pod: str, container: str, command: Sequence[str]) -> PodExec:
        """Start a program in a container, with its standard streams connected.

        Parameters
        ----------
        pod, container
            The Pod's name and the container's name.
        command
            The program and its arguments.
        """
        return PodExec.start(self.client.configuration, self.namespace, pod, container, command)

    def _find(self, what: str, api: Any, method: str, name: str) -> Object | None:
        with _nothing_there():
            return self._ask(what, api, method, name=name)
        return None

    def _list(self, what: str, api: Any, method: str, labels: Mapping[str, str]) -> list[Object]:
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return list(self._ask(what, api, method, label_selector=selector)["items"])

    def _ask(self, what: str, api: Any, method: str, *, scoped: bool = True, **arguments: Any) -> Object:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        if scoped:
            arguments["namespace"] = self.namespace
        call = getattr(api(self.client), method)
        try:
            answer = call(**arguments, _preload_content=False, _request_timeout=_REQUEST_S)
            return dict(json.loads(answer.read()))
        except ApiException as error:
            refusal = self._refusal(what, error.status, error.reason, error.body)
            raise (_NotThereError(str(refusal)) if error.status == _NOT_THERE else refusal) from error
        except (HTTPError, OSError) as error:
            raise UnreachableError(
                f"the cluster at {self.host} does not answer ({_cause(error)}); "
                f"check KUBECONFIG and the network"
            ) from error
        except (ValueError, TypeError) as error:  # what the client's own check of the body finds
            raise SettingsError(f"cannot {what}: {_misfit(error)}") from error

    def _refusal(self, what: str, status: int | None, reason: Any, body: Any) -> StageError:
        said = " ".join((_message(body) or str(reason or status)).split())[:_LONGEST_ANSWER]
        if _USED_UP in said:
            return ClusterError(f"the cluster cannot {what} now: {said}")
        if status in _NOT_ALLOWED and ('User "' in said or not _message(body)):
            return SettingsError(
                f"this user may not {what} in namespace {self.namespace} of the cluster at {self.host}; "
                f"ask its administrator for that right ({said})"
            )
        if status in _BUSY and "too large" not in said:
            return ClusterError(f"the cluster at {self.host} failed to {what} ({status}): {said}; try again")
        return SettingsError(f"the cluster refused to {what}: {said}")


class _NotThereError(SettingsError):
    pass


@contextmanager
def _nothing_there() -> Iterator[None]:
    try:
        yield
    except _NotThereError:
        return


def _configuration(environ: Mapping[str, str]) -> tuple[Any, str]:
    """Return the configuration of the client, and the namespace it names."""
    from kubernetes import client, config
    from kubernetes.config import kube_config

    configuration = client.Configuration()
    unreadable = kube_config.yaml.YAMLError  # of the library that the client reads it with
    file = environ.get("KUBECONFIG") or os.path.join(environ.get("HOME", ""), ".kube", "config")
    context = environ.get("CLARA_KUBE_CONTEXT") or None
    try:
        if "KUBERNETES_SERVICE_HOST" in environ and not environ.get("KUBECONFIG"):
            config.load_incluster_config(client_configuration=configuration)
            return configuration, _POD_NAMESPACE.read_text(encoding="ascii").strip()
        config.load_kube_config(config_file=file, context=context, client_configuration=configuration)
        contexts, active = config.list_kube_config_contexts(config_file=file)
    except (config.ConfigException, unreadable, OSError, KeyError, TypeError) as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise SettingsError(
            f"there is no cluster to run on: {file} cannot be used ({why}); "
            f"name its configuration in KUBECONFIG"
        ) from error
    chosen = next((each for each in contexts if each["name"] == context), active)
    return configuration, str(chosen["context"].get("namespace") or "default")


def _misfit(error: Exception) -> str:
    """Return the first key of a body that the client refuses, and why."""
    found: list[Object] = getattr(error, "errors", list)()
    if not found:
        return " ".join(str(error).split())
    path = ".".join(str(part) for part in found[0]["loc"] if part != "body")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{path}: {found[0]['msg']}, found {found[0]['input']!r}{more}"


def _message(body: Any) -> str:
    try:
        return str(json.loads(body)["message"])
    except (TypeError, ValueError, KeyError):
        return ""


def _cause(error: BaseException) -> str:
    text = str(getattr(error, "reason", None) or error)
    return text.rpartition(": ")[2] or type(error).__name__
