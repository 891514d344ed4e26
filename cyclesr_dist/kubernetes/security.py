"""Findings against the restricted level of Kubernetes' Pod Security Standards, and a few that it leaves out.

Source: kubernetes.io/docs/concepts/security/pod-security-standards, levels baseline and restricted, every control.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"),
}
_SECCOMP = ("RuntimeDefault", "Localhost")
_APPARMOR = ("RuntimeDefault", "Localhost")
_SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
}


def findings(pod: dict[str, Any]) -> list[str]:
    """Of a pod template (metadata and spec); empty when there is nothing to find fault with."""
    spec = pod.get("spec") or {}
    return [
        *_of_pod(spec),
        *(f for container in containers(spec) for f in _of_container(container, spec)),
        *_beyond(spec),
    ]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """All of them: main, init, ephemeral."""
    return [c for key in ("initContainers", "containers", "ephemeralContainers") for c in spec.get(key) or []]


def _of_pod(spec: dict[str, Any]) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key}: true"
    for volume in spec.get("volumes") or []:
        for kind in set(volume) - {"name"} - _VOLUMES:
            yield f"volume {volume.get('name')}: {kind} is not allowed"
    for sysctl in (spec.get("securityContext") or {}).get("sysctls") or []:
        if sysctl.get("name") not in _SYSCTLS:
            yield f"sysctl {sysctl.get('name')}"
    yield from _of_context("pod", spec.get("securityContext") or {})


def _of_container(container: dict[str, Any], spec: dict[str, Any]) -> Iterator[str]:
    name = f"container {container.get('name')}"
    own, pod = container.get("securityContext") or {}, spec.get("securityContext") or {}
    yield from _of_context(name, own)
    if own.get("privileged"):
        yield f"{name}: privileged: true"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: allowPrivilegeEscalation is not false"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []):
        yield f"{name}: capabilities.drop lacks ALL"
    for added in set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield f"{name}: capability {added} is added"
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield f"{name}: runAsNonRoot is not true"
    if (own.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type") not in _SECCOMP:
        yield f"{name}: no seccompProfile"
    if (own.get("procMount") or "Default") != "Default":
        yield f"{name}: procMount {own['procMount']}"
    for port in container.get("ports") or []:
        if port.get("hostPort"):
            yield f"{name}: hostPort {port['hostPort']}"
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        yield from _of_handler(f"{name}: {probe}", container.get(probe) or {})
    for hook, handler in (container.get("lifecycle") or {}).items():
        if isinstance(handler, dict):
            yield from _of_handler(f"{name}: {hook}", handler)


def _of_context(where: str, context: dict[str, Any]) -> Iterator[str]:
    """What pod and container contexts have in common."""
    if context.get("runAsUser") == 0:
        yield f"{where}: runAsUser 0"
    if context.get("runAsNonRoot") is False:
        yield f"{where}: runAsNonRoot: false"
    if "seccompProfile" in context and context["seccompProfile"].get("type") not in _SECCOMP:
        yield f"{where}: seccompProfile {context['seccompProfile'].get('type')}"
    if "appArmorProfile" in context and context["appArmorProfile"].get("type") not in _APPARMOR:
        yield f"{where}: appArmorProfile {context['appArmorProfile'].get('type')}"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{where}: seLinuxOptions"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{where}: windowsOptions.hostProcess"


def _of_handler(where: str, handler: dict[str, Any]) -> Iterator[str]:
    for kind in ("httpGet", "tcpSocket"):
        if (handler.get(kind) or {}).get("host"):
            yield f"{where}: {kind}.host"


def _beyond(spec: dict[str, Any]) -> Iterator[str]:
    """Ours, beyond the standard."""
    if spec.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken is not false"
    if spec.get("shareProcessNamespace"):
        yield "shareProcessNamespace: true"
    for container in containers(spec):
        if (container.get("securityContext") or {}).get("readOnlyRootFilesystem") is not True:
            yield f"container {container.get('name')}: readOnlyRootFilesystem is not true"
