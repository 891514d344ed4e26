"""`cluster.pod_patch`: what the user merges into the pods, and what nobody may change there.

Merged as Kubernetes' strategic merge patch does with pods: mappings into mappings, null takes away, lists whose items
have a key (containers, volumes, variables) item by item, all other lists as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cyclesr_dist.config.cluster import Cluster, looks_secret
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.kubernetes.pod_fields import check_fields

KEY = "cluster.pod_patch"
MAIN = "main"
"""In a patch the name of the container that works: each target calls it otherwise."""

# Source: the patchMergeKey of each list in Kubernetes' PodSpec.
_ITEM_KEYS = {
    **dict.fromkeys(("containers", "initContainers", "volumes", "env", "imagePullSecrets"), "name"),
    **dict.fromkeys(("resourceClaims", "schedulingGates"), "name"),
    **{"volumeMounts": "mountPath", "volumeDevices": "devicePath", "ports": "containerPort", "hostAliases": "ip"},
    "topologySpreadConstraints": "topologyKey",
}
_OF_POD = {
    "restartPolicy": "",
    "subdomain": "",
    "hostname": "",
    "hostnameOverride": "",
    "setHostnameAsFQDN": "",
    "ephemeralContainers": "",
    "hostNetwork": "cluster.host_network",
    "activeDeadlineSeconds": "cluster.deadline_seconds",
}
"""What the run relies on, and the key to turn instead, if there is one."""
_OF_CONTAINER = {
    "command": "",
    "args": "",
    "workingDir": "",
    "restartPolicy": "",
    "image": "cluster.image",
    "envFrom": "cluster.env_secrets and cluster.env_config_maps",
}
_OUR_VARIABLES = ("PET_", "CYCLESR_")


def patched(cluster: Cluster, spec: dict[str, Any]) -> dict[str, Any]:
    """A pod's spec with `cluster.pod_patch` merged into it.

    Raises ConfigError naming the place for what no pod has there, for a secret, and for what the run relies on.
    """
    if not cluster.pod_patch:
        return spec
    check_fields(cluster.pod_patch, KEY)
    patch = _for(spec, cluster.pod_patch)
    result: dict[str, Any] = _merged(spec, patch, KEY)
    for where, instead in _changed(spec, result, cluster):
        raise ConfigError(
            f"{KEY}.{where} may not be changed: the run relies on it; allowed: {instead or 'other fields'}"
        )
    known = [container["name"] for container in spec["containers"]]
    if more := [c["name"] for c in result["containers"] if c["name"] not in known]:
        raise ConfigError(
            f"{KEY}.containers[{more[0]}] would keep the pod from ending; allowed: {MAIN}, and in initContainers "
            "others with restartPolicy: Always"
        )
    for where, name in _secrets(result):
        raise ConfigError(
            f"{KEY}.{where}: {name} looks like a secret; allowed: a Secret (cluster.env_secrets, or "
            "valueFrom.secretKeyRef)"
        )
    return result


def _for(spec: dict[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """With the name that `main` has in this pod."""
    found = dict(patch)
    if isinstance(found.get("containers"), list):
        name = spec["containers"][0]["name"]
        found["containers"] = [
            c | {"name": name} if isinstance(c, dict) and c.get("name") == MAIN else c for c in found["containers"]
        ]
    return found


def _merged(base: Any, patch: Any, where: str) -> Any:
    if isinstance(patch, dict):
        if not isinstance(base, dict | None):
            raise ConfigError(f"{where} is a mapping; allowed: {_kind(base)}, as the pod has it")
        result = dict(base or {})
        for name, value in patch.items():
            if value is None:
                result.pop(name, None)
            else:
                result[name] = _merged(result.get(name), value, f"{where}.{name}")
        return result
    if isinstance(patch, list):
        if not isinstance(base, list | None):
            raise ConfigError(f"{where} is a list; allowed: {_kind(base)}, as the pod has it")
        key = _ITEM_KEYS.get(where.rpartition(".")[2])
        return _by_key(base or [], patch, key, where) if key else patch
    if isinstance(base, dict | list):
        raise ConfigError(f"{where} = {patch!r}; allowed: {_kind(base)}, as the pod has it")
    return patch


def _by_key(base: list[Any], patch: list[Any], key: str, where: str) -> list[Any]:
    items = {item[key]: item for item in base}
    for i, item in enumerate(patch):
        if not isinstance(item, dict) or not isinstance(item.get(key), str | int):
            raise ConfigError(f"{where}[{i}] has no {key}, by which it is merged; allowed: mappings with one")
        items[item[key]] = _merged(items.get(item[key]), item, f"{where}[{item[key]}]")
    return list(items.values())


def _kind(value: Any) -> str:
    return "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else "a single value"


def _changed(before: dict[str, Any], after: dict[str, Any], cluster: Cluster) -> Iterator[tuple[str, str]]:
    """(place, what to turn instead) of everything that the run relies on and the patch changes."""
    for key, instead in _OF_POD.items():
        if before.get(key) != after.get(key):
            yield key, instead
    least, grace = before["terminationGracePeriodSeconds"], after.get("terminationGracePeriodSeconds")
    if not isinstance(grace, int) or grace < least:
        yield "terminationGracePeriodSeconds", f"at least {least}, in which the ranks save; train.grace_seconds"
    for volume in before["volumes"]:
        if volume["name"] in ("config", "shm") and volume not in (after.get("volumes") or []):
            yield f"volumes[{volume['name']}]", "cluster.shm_gib" if volume["name"] == "shm" else ""
    for kind in ("containers", "initContainers"):
        now = {container["name"]: container for container in after.get(kind) or []}
        for container in before.get(kind) or []:
            name = container["name"]
            place = f"{kind}[{MAIN if kind == 'containers' else name}]"
            if name not in now:
                yield place, ""
                return
            for field, instead in _of_container(container, now[name], cluster):
                yield f"{place}.{field}", instead


def _of_container(before: dict[str, Any], after: dict[str, Any], cluster: Cluster) -> Iterator[tuple[str, str]]:
    for key, instead in _OF_CONTAINER.items():
        if before.get(key) != after.get(key):
            yield key, instead
    for key in ("volumeMounts", "ports"):
        for one in before.get(key) or []:
            if one not in (after.get(key) or []):
                yield f"{key}[{one[_ITEM_KEYS[key]]}]", ""
    ours = [_own_variables(container) for container in (before, after)]
    for name in ours[0].keys() | ours[1].keys():
        if ours[0].get(name) != ours[1].get(name):
            yield f"env[{name}]", "other variables"
    for kind in ("requests", "limits"):
        now = (after.get("resources") or {}).get(kind) or {}
        was = before["resources"][kind]
        if was.get(cluster.gpu_resource) != now.get(cluster.gpu_resource):
            yield f"resources.{kind}.{cluster.gpu_resource}", "cluster.gpus_per_node"


def _own_variables(container: dict[str, Any]) -> dict[str, Any]:
    return {v["name"]: v for v in container.get("env") or [] if str(v["name"]).startswith(_OUR_VARIABLES)}


def _secrets(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(place, name) of variables that are named as secrets are and have their value there."""
    for kind in ("containers", "initContainers"):
        for container in spec.get(kind) or []:
            for variable in container.get("env") or []:
                if variable.get("value") and looks_secret(str(variable["name"])):
                    yield f"{kind}[{container['name']}].env", variable["name"]
