"""An API server for tests: kmock's emulator over real HTTP, with what it lacks and the client relies on.

Added: server-side dry runs with the API's own schemas, label selectors, resource versions and their conflicts, deletion
in the foreground, watches that end at their timeout or are too old, logs, forbidden verbs, connections that break or
fall silent, and Trainer's webhook.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp.web
import kubernetes_validate
import yaml
from kmock import KubernetesEmulator, Server, action, resource


def refused(status: int, reason: str, message: str) -> aiohttp.web.Response:
    content = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": status}
    return aiohttp.web.json_response(content | {"reason": reason, "message": message}, status=status)


_KINDS = {
    "pods": "Pod",
    "configmaps": "ConfigMap",
    "services": "Service",
    "jobs": "Job",
    "networkpolicies": "NetworkPolicy",
}


class ApiServer(KubernetesEmulator):
    def prepare(self, kinds: list[tuple[str, str, str]]) -> None:
        """`kinds`: (group, version, plural) of what the cluster knows."""
        self.known = {resource(*kind) for kind in kinds}
        for kind in self.known:
            name = _KINDS.get(kind.plural, kind.plural.capitalize())
            self.resources[kind] = {"kind": name, "namespaced": True, "verbs": ["create", "get", "list", "watch"]}
        self.forbidden: set[tuple[str, str]] = set()
        self.fail_creating: set[str] = set()
        self.unanswered: set[str] = set()  # of these plurals, a creation is done and its answer kept back
        self.expired_token = False
        self.late_runtimes = 0  # so often Trainer's webhook does not see a runtime that is there
        self.faster: dict[str, dict[str, Any]] = {}  # by plural: created by another, just before a creation
        self.conflicts = 0
        self.breaking_watches = 0
        self.expiring_watches = 0
        self.watches = 0
        self.gone: list[tuple[Any, dict[str, Any]]] = []  # resource and object, as it was deleted
        self.breaking_logs = 0
        self.silent_logs = 0
        self.logs: dict[str, list[tuple[str, str]]] = {}  # by pod, or pod/container if it is not the first one
        self.ended_logs: set[str] = set()
        self.asked_logs: list[dict[str, str]] = []
        self.version = 0
        self.seen: list[str] = []

    async def _serve_version(self, request: Any) -> Any:
        answer = await super()._serve_version(request)
        return answer | {"groupVersion": answer["groupVersion"].lstrip("/")}  # "/v1" would be no version

    async def _handle(self, request: Any) -> aiohttp.web.StreamResponse:
        kind = request.resource
        if kind is None or not kind.plural:
            return await super()._handle(request)
        verb = request.action.value.lower() if request.action else "get"
        self.seen.append(f"{verb} {kind.plural}{' (dry run)' if 'dryRun' in request.params else ''}")
        if self.expired_token:
            return refused(401, "Unauthorized", "Unauthorized")
        if (verb, kind.plural) in self.forbidden:
            user = 'User "eve" cannot'
            return refused(403, "Forbidden", f'{kind.plural} is forbidden: {user} {verb} resource "{kind.plural}"')
        if kind not in self.known:
            return refused(404, "NotFound", "the server could not find the requested resource")
        if kind.plural == "pods" and request.subresource == "log":
            return await self._log(request)
        if request.action == action.CREATE:
            request.data["metadata"].setdefault("namespace", request.namespace)
            if problem := _schema_problem(request.data):
                return refused(422, "Invalid", f"{request.data['kind']} is invalid: {problem}")
            key = (kind, request.namespace, request.data["metadata"]["name"])
            if kind.plural in self.faster:
                self._put(key, self.faster.pop(kind.plural))
            if key in self._living():
                return refused(409, "AlreadyExists", f"{kind.plural} already exists")
            if kind.plural == "trainjobs" and (refusal := self._without_runtime(request)):
                return refusal
            if request.params.get("dryRun") == "All":
                return aiohttp.web.json_response(request.data, status=201)
            if kind.plural in self.fail_creating:
                return refused(403, "Forbidden", "exceeded quota: gpus, requested: 16, used: 60, limited: 64")
        if request._raw_request.method == "PUT":
            return self._replace(request)
        if request.action == action.DELETE and request.params.get("propagationPolicy") == "Foreground":
            key = (kind, request.namespace, request.name)
            if key in self._living() and self._pods_of(key):
                return self._delete_in_foreground(key)
        if request.action == action.CREATE:
            self._stamp(request.data)
            answer = await super()._handle(request)
            while kind.plural in self.unanswered:
                await asyncio.sleep(0.05)
            return answer
        if verb in ("list", "watch"):
            watching = request.params.get("watch", "").lower() in ("true", "1")  # the client says True
            return await self._watch(request) if watching else self._list(request)
        return await super()._handle(request)

    def _living(self) -> set[Any]:
        return {key for key, found in self._objects.items() if not found.deleted}

    def _replace(self, request: Any) -> aiohttp.web.Response:
        key = (request.resource, request.namespace, request.name)
        if key not in self._living():
            return refused(404, "NotFound", f'{request.resource.plural} "{request.name}" not found')
        if self.conflicts:
            self.conflicts -= 1
            self._patch(key, {})
        if request.data["metadata"].get("resourceVersion") != self._objects[key]["metadata"]["resourceVersion"]:
            return refused(409, "Conflict", "the object has been modified; please apply your changes to the latest")
        request.data["metadata"].setdefault("namespace", request.namespace)
        self._put(key, request.data)
        return aiohttp.web.json_response(request.data)

    def _without_runtime(self, request: Any) -> aiohttp.web.Response | None:
        """What Trainer's webhook says, which knows runtimes from a cache; also in a dry run."""
        name = request.data["spec"]["runtimeRef"]["name"]
        there = any(
            (key[0].plural, *key[1:]) == ("trainingruntimes", request.namespace, name) for key in self._living()
        )
        if there and not self.late_runtimes:
            return None
        self.late_runtimes -= there
        hook = 'admission webhook "validator.trainjob.trainer.kubeflow.org" denied the request'
        missing = f'TrainingRuntime.trainer.kubeflow.org "{name}" not found'
        rule = "specified trainingRuntime must be created before the TrainJob is created"
        return refused(403, "Forbidden", f"{hook}: spec.runtimeRef: Invalid value: {missing}: {rule}")

    def _pods_of(self, key: Any) -> list[Any]:
        """Keys of the pods with the run's label: they are owned by its job."""
        return [
            found
            for found in self._living()
            if found[0].plural == "pods"
            and found[1] == key[1]
            and (self._objects[found].raw["metadata"].get("labels") or {}).get("cyclesr-dist/run") == key[2]
        ]

    def _delete_in_foreground(self, key: Any) -> aiohttp.web.Response:
        """Pods that run are told to end, the others go; the object stays until the last one is removed."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        for pod in self._pods_of(key):
            if self._objects[pod].raw["status"]["phase"] != "Running":
                self._remove(pod)
            else:
                self._patch(pod, {"metadata": {"deletionTimestamp": now}})
        self._objects[key].patch({"metadata": {"deletionTimestamp": now, "finalizers": ["foregroundDeletion"]}})
        answer = aiohttp.web.json_response(self._objects[key].raw)
        self._collect()
        return answer

    def _collect(self) -> None:
        for key in self._living():
            finalizers = self._objects[key].raw["metadata"].get("finalizers") or []
            if "foregroundDeletion" in finalizers and not self._pods_of(key):
                self._objects[key].delete()

    def _patch(self, key: Any, change: dict[str, Any]) -> None:
        self.version += 1
        metadata = change.get("metadata", {}) | {"resourceVersion": str(self.version)}
        self._objects[key].patch(change | {"metadata": metadata})

    def _put(self, key: Any, content: dict[str, Any]) -> None:
        self._stamp(content)
        if key in self._living():
            self._objects[key].patch(content)
        else:
            self._objects[key] = content

    def _remove(self, key: Any) -> None:
        last = json.loads(json.dumps(self._objects[key].raw))
        self._stamp(last)
        self.gone.append((key[0], last))
        self._objects[key].delete()

    def _stamp(self, found: dict[str, Any]) -> None:
        self.version += 1
        found["metadata"]["resourceVersion"] = str(self.version)

    def _chosen(self, request: Any, found: dict[str, Any]) -> bool:
        labels = found["metadata"].get("labels") or {}
        wanted = [pair.split("=") for pair in request.params.get("labelSelector", "").split(",") if pair]
        return found["metadata"].get("namespace") == request.namespace and all(labels.get(k) == v for k, v in wanted)

    def _list(self, request: Any) -> aiohttp.web.Response:
        items = [found.raw for key, found in self._objects.items() if key[0] == request.resource and not found.deleted]
        chosen = [item for item in items if self._chosen(request, item)]
        content = {"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": str(self.version)}}
        return aiohttp.web.json_response(content | {"items": chosen})

    async def _watch(self, request: Any) -> aiohttp.web.StreamResponse:
        self.watches += 1
        response = aiohttp.web.StreamResponse()
        await response.prepare(request._raw_request)
        if self.breaking_watches:
            self.breaking_watches -= 1
            await response.write(b'{"type": "ADDED", "obj')  # in the middle of a line
            request._raw_request.transport.abort()
            return response
        if self.expiring_watches:
            self.expiring_watches -= 1
            status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            await response.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
            return response
        since = int(request.params.get("resourceVersion") or 0)
        bookmark = {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": str(self.version)}}
        await response.write(json.dumps({"type": "BOOKMARK", "object": bookmark}).encode() + b"\n")
        deadline = asyncio.get_running_loop().time() + float(request.params["timeoutSeconds"])
        told: dict[str, str] = {}
        while asyncio.get_running_loop().time() < deadline:
            for key, found in list(self._objects.items()):
                if key[0] != request.resource or found.deleted or not self._chosen(request, found.raw):
                    continue
                version = found.raw["metadata"].get("resourceVersion", "0")
                if int(version) > since and told.get(key[2]) != version:
                    told[key[2]] = version
                    await response.write(json.dumps({"type": "MODIFIED", "object": found.raw}).encode() + b"\n")
            for kind, last in self.gone:
                version = last["metadata"]["resourceVersion"]
                name = last["metadata"]["name"]
                if kind == request.resource and int(version) > since and told.get(name) != version:
                    told[name] = version
                    await response.write(json.dumps({"type": "DELETED", "object": last}).encode() + b"\n")
            await asyncio.sleep(0.02)
        return response

    async def _log(self, request: Any) -> aiohttp.web.StreamResponse:
        key = (request.resource, request.namespace, request.name)
        if key not in self._living():
            return refused(404, "NotFound", f'pods "{request.name}" not found')
        pod = self._objects[key].raw
        container = request.params["container"]
        self.asked_logs.append(dict(request.params))
        first = pod["spec"]["containers"][0]["name"]
        statuses = pod["status"].get("containerStatuses") or []
        if container == first and any("waiting" in (status.get("state") or {}) for status in statuses):
            return refused(400, "BadRequest", f'container "{first}" in pod "{request.name}" is waiting to start')
        name = request.name if container == first else f"{request.name}/{container}"
        since = ""
        if "sinceSeconds" in request.params:
            since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - int(request.params["sinceSeconds"])))
        last = int(request.params.get("tailLines", 0))
        response = aiohttp.web.StreamResponse()
        await response.prepare(request._raw_request)
        if self.silent_logs:
            self.silent_logs -= 1
            await asyncio.sleep(20)
            return response
        sent = 0
        while True:
            lines = [line for line in self.logs.get(name, []) if line[0] >= since][-last:]
            for stamp, line in lines[sent:]:
                stamped = f"{stamp} {line}" if "timestamps" in request.params else line
                await response.write(f"{stamped}\n".encode())
                sent += 1
                if self.breaking_logs and sent == 2:
                    self.breaking_logs -= 1
                    await asyncio.sleep(0.05)
                    request._raw_request.transport.abort()
                    return response
            if request.name in self.ended_logs or "follow" not in request.params:
                return response
            await asyncio.sleep(0.02)


def _schema_problem(manifest: dict[str, Any]) -> str:
    if manifest["apiVersion"] not in ("v1", "batch/v1", "networking.k8s.io/v1"):
        return ""  # a custom resource
    try:
        kubernetes_validate.validate(manifest, "1.34", strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    return ""


KINDS = [
    ("", "v1", "pods"),
    ("", "v1", "configmaps"),
    ("", "v1", "services"),
    ("batch", "v1", "jobs"),
    ("networking.k8s.io", "v1", "networkpolicies"),
]


class Cluster:
    """The server, from other threads."""

    def __init__(self, server: ApiServer, loop: asyncio.AbstractEventLoop, kubeconfig: Path) -> None:
        self.server = server
        self.loop = loop
        self.kubeconfig = kubeconfig

    def do(self, change: Callable[[ApiServer], Any]) -> Any:
        """Call `change` in the server's thread."""

        async def call() -> Any:
            return change(self.server)

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(30)

    def objects(self) -> list[str]:
        """Kind and name of what there is, but for pods."""
        return sorted(f"{key[0].plural}/{key[2]}" for key in self.do(lambda s: s._living()) if key[0].plural != "pods")

    def contents(self) -> dict[str, dict[str, Any]]:
        """Every object, by kind and name."""
        return dict(self.do(lambda s: {f"{key[0].plural}/{key[2]}": found.raw for key, found in s._objects.items()}))

    def put(self, kind: str, content: dict[str, Any], namespace: str = "lab") -> None:
        """Create an object, or put `content` in its place."""

        def change(server: ApiServer) -> None:
            (where,) = (known for known in server.known if known.plural == kind)
            content["metadata"]["namespace"] = namespace
            server._put((where, namespace, content["metadata"]["name"]), content)

        self.do(change)

    def remove(self, kind: str, name: str, namespace: str = "lab") -> None:
        """As a pod goes when it has ended; what is being deleted in the foreground goes after its last pod."""

        def change(server: ApiServer) -> None:
            (where,) = (known for known in server.known if known.plural == kind)
            server._remove((where, namespace, name))
            server._collect()

        self.do(change)

    def patch(self, kind: str, name: str, change: dict[str, Any], namespace: str = "lab") -> None:
        def apply(server: ApiServer) -> None:
            (where,) = (known for known in server.known if known.plural == kind)
            server._patch((where, namespace, name), change)

        self.do(apply)


@contextmanager
def cluster(folder: Path, kinds: list[tuple[str, str, str]] = KINDS) -> Iterator[Cluster]:
    """A server in a thread, and a kubeconfig for it with the namespace `lab`."""
    loop = asyncio.new_event_loop()
    ready: Future[tuple[ApiServer, str]] = Future()
    leave = asyncio.Event()

    async def serve() -> None:
        handler = ApiServer()
        handler.prepare(kinds)
        async with handler, Server(handler) as server:
            ready.set_result((handler, str(server.url).rstrip("/")))
            await leave.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    handler, url = ready.result(30)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "lab"}}],
        "current-context": "x",
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    try:
        yield Cluster(handler, loop, folder / "kubeconfig")
    finally:
        loop.call_soon_threadsafe(leave.set)
        thread.join(10)
