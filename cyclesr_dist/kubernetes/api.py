"""The Kubernetes API as this program uses it: objects by manifest, pods and logs, errors in one line each."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from cyclesr_dist.errors import CycleSRError, InputError
from cyclesr_dist.runtime.passing import failed

_PLURALS = {
    "Job": "jobs",
    "JobSet": "jobsets",
    "NetworkPolicy": "networkpolicies",
    "PodMonitor": "podmonitors",
    "RayJob": "rayjobs",
    "TrainingRuntime": "trainingruntimes",
    "TrainJob": "trainjobs",
}
_CORE = {"ConfigMap": "config_map", "Service": "service"}
_TIMEOUT_SECONDS = (10, 60)  # to connect, to read
LOG_TIMEOUT_SECONDS = (10, 300)  # a machine that is gone closes no connection
_OVERLAP_SECONDS = 60  # clocks of machines differ

Manifest = dict[str, Any]


class AlreadyThereError(CycleSRError):
    """The object exists."""


class Api:
    """One namespace of the cluster that the kubeconfig names (or the pod that this runs in)."""

    def __init__(self, namespace: str = "") -> None:
        """Raises InputError when there is no usable kubeconfig."""
        try:
            inside = _in_a_pod()
            config.load_incluster_config() if inside else config.load_kube_config()
            self.namespace = namespace or _own_namespace(inside)
        except (config.ConfigException, yaml.YAMLError, OSError, ValueError, KeyError, TypeError) as error:
            raise failed(f"no usable kubeconfig: {_line(error)}", error) from error
        settings = client.Configuration.get_default_copy()
        settings.client_side_validation = False  # a newer cluster may say more, or less, than this client knows
        connection = client.ApiClient(settings)
        self.core = client.CoreV1Api(connection)
        self.custom = client.CustomObjectsApi(connection)
        self._ahead: float | None = None  # the cluster's clock before ours, in seconds

    def get(self, manifest: Manifest) -> Manifest | None:
        """The object as it is in the cluster; None if it is not there."""
        with _plain_words(f"read {_name(manifest)}", self.namespace):
            try:
                found = self._call("read", manifest, name=manifest["metadata"]["name"])
            except ApiException as error:
                if error.status == 404:
                    return None
                raise
        return found

    def create(self, manifest: Manifest, *, dry_run: bool = False) -> None:
        """Raises AlreadyThereError, and InputError for what the cluster refuses or does not know."""
        more = {"dry_run": "All"} if dry_run else {}
        with _plain_words(f"create {_name(manifest)}", self.namespace):
            try:
                self._call("create", manifest, body=manifest, field_validation="Strict", **more)
            except ApiException as error:
                if error.status == 409:
                    raise AlreadyThereError(f"{_name(manifest)} exists") from error
                if error.status == 404:
                    raise InputError(
                        f"the cluster knows no {manifest['kind']} ({manifest['apiVersion']}), or no namespace "
                        f"{self.namespace}: {_message(error)}"
                    ) from error
                raise

    def replace(self, manifest: Manifest, *, version: str) -> None:
        """Put `manifest` in the place of the object that has this resource version."""
        name = manifest["metadata"]["name"]
        body = manifest | {"metadata": manifest["metadata"] | {"resourceVersion": version}}
        with _plain_words(f"replace {_name(manifest)}", self.namespace):
            self._call("replace", manifest, name=name, body=body)

    def delete(self, manifest: Manifest, *, foreground: bool = False) -> bool:
        """Whether there was something to delete. What the object owns goes with it, in the foreground before it."""
        name = manifest["metadata"]["name"]
        with _plain_words(f"delete {_name(manifest)}", self.namespace):
            try:
                policy = "Foreground" if foreground else "Background"
                self._call("delete", manifest, name=name, propagation_policy=policy)
            except ApiException as error:
                if error.status == 404:
                    return False
                raise
        return True

    def pods(self, selector: str) -> tuple[list[Manifest], str]:
        """Pods by label, and the version from which to watch them."""
        with _plain_words("list pods", self.namespace):
            found = self._plain(self.core.list_namespaced_pod(self.namespace, label_selector=selector, **_timeout()))
        return found.get("items") or [], found["metadata"].get("resourceVersion") or ""

    def watch_pods(self, selector: str, version: str, seconds: int) -> Iterator[tuple[str, Manifest]]:
        """(ADDED, MODIFIED or DELETED, pod) from `version` on, for so long at most.

        Ends early where the connection breaks or the version is too old: list again, and go on.
        """
        # Not the client's own Watch, which makes objects of its models and falls over what they do not know.
        with _plain_words("watch pods", self.namespace):
            try:
                response = self.core.list_namespaced_pod(
                    self.namespace,
                    label_selector=selector,
                    resource_version=version,
                    timeout_seconds=seconds,
                    watch=True,
                    _preload_content=False,
                    _request_timeout=(_TIMEOUT_SECONDS[0], seconds + _TIMEOUT_SECONDS[1]),
                )
            except ApiException as error:
                if error.status == 410:
                    return
                raise
            try:
                for line in _lines(response):
                    event = json.loads(line)
                    if event["type"] == "ERROR":  # 410: the version is too old
                        return
                    if event["type"] != "BOOKMARK":
                        yield event["type"], event["object"]
            except (urllib3.exceptions.ProtocolError, urllib3.exceptions.ReadTimeoutError, ValueError):
                return

    def log_lines(self, pod: str, container: str, since: str = "") -> Iterator[tuple[str, str]]:
        """(timestamp, line) of a container, followed to its end or that of the connection.

        From the beginning, or with the timestamp `since` from some time before it. Raises ApiException, 400 while the
        container has not begun, and urllib3's errors: ReadTimeoutError when nothing has come for minutes.
        """
        age = self._age(since)
        response = self.core.read_namespaced_pod_log(
            pod,
            self.namespace,
            container=container,
            follow=True,
            timestamps=True,
            _preload_content=False,
            _request_timeout=LOG_TIMEOUT_SECONDS,
            **({} if age is None else {"since_seconds": max(1, int(age)) + _OVERLAP_SECONDS}),
        )
        if date := response.headers.get("Date"):
            self._ahead = parsedate_to_datetime(date).timestamp() - time.time()
        return (_split(line) for line in _lines(response))

    def last_lines(self, pod: str, container: str, lines: int) -> list[str]:
        """The end of a container's log. Raises as log_lines does."""
        response = self.core.read_namespaced_pod_log(
            pod, self.namespace, container=container, tail_lines=lines, _preload_content=False, **_timeout()
        )
        return [line.decode("utf-8", "replace") for line in _lines(response)]

    def _age(self, stamp: str) -> float | None:
        """Seconds since then by the cluster's clock; None where one of both is not known."""
        try:
            then = datetime.fromisoformat(f"{stamp[:19]}{stamp[-1:].replace('Z', '+00:00')}")
        except ValueError:
            return None
        if self._ahead is None or then.tzinfo is None:
            return None
        return (datetime.now(UTC) - then).total_seconds() + self._ahead

    def _call(self, verb: str, manifest: Manifest, **arguments: Any) -> Manifest:
        kind = manifest["kind"]
        if kind in _CORE:
            call = getattr(self.core, f"{verb}_namespaced_{_CORE[kind]}")
            return self._plain(call(namespace=self.namespace, **arguments, **_timeout()))
        group, version = manifest["apiVersion"].split("/")
        verb = "get" if verb == "read" else verb
        call = getattr(self.custom, f"{verb}_namespaced_custom_object")
        found = call(
            group=group, version=version, namespace=self.namespace, plural=_PLURALS[kind], **arguments, **_timeout()
        )
        return self._plain(found)

    def _plain(self, answer: Any) -> Manifest:
        plain: Manifest = self.core.api_client.sanitize_for_serialization(answer)
        return plain


def _in_a_pod() -> bool:
    """Without a kubeconfig, where the pod's own account has to do."""
    return "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ


def _own_namespace(inside: bool) -> str:
    if inside:
        with open("/var/run/secrets/kubernetes.io/serviceaccount/namespace", encoding="utf-8") as file:
            return file.read().strip()
    _, active = config.list_kube_config_contexts()
    return str(active["context"].get("namespace") or "default")


@contextmanager
def _plain_words(what: str, namespace: str) -> Iterator[None]:
    try:
        yield
    except ApiException as error:
        said = f"the cluster refuses to {what} in namespace {namespace}: {_message(error)}"
        if error.status in (400, 401, 403, 404, 422):
            raise InputError(said) from error
        raise CycleSRError(said) from error
    except urllib3.exceptions.HTTPError as error:
        raise CycleSRError(f"the cluster does not answer ({what}): {_line(error)}") from error


def _message(error: ApiException) -> str:
    try:
        message = json.loads(error.body or "").get("message")
    except (ValueError, AttributeError):
        message = None
    return f"{message or error.reason or 'no reason given'} ({error.status})"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _name(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def _lines(response: Any) -> Iterator[bytes]:
    rest = b""
    try:
        for piece in response.stream(4096):
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
        if rest:
            yield rest
    finally:
        response.release_conn()


def _split(line: bytes) -> tuple[str, str]:
    stamp, _, text = line.decode("utf-8", "replace").partition(" ")
    return stamp, text


def _timeout() -> dict[str, Any]:
    return {"_request_timeout": _TIMEOUT_SECONDS}
