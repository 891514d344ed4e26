"""Kubernetes' own schemas, strictly, and those of the operators' custom resources."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from cyclesr_dist.kubernetes.rules import jobs, pods

CRDS = Path(__file__).parents[3] / "shared" / "crds"
NEWEST = kubernetes_validate.latest_version()
VERSIONS = [f"1.{minor}" for minor in range(29, int(NEWEST.split(".")[1]) + 1)]
_CRD_FILES = {
    "JobSet": "jobset.x-k8s.io_jobsets.yaml",
    "RayJob": "ray.io_rayjobs.yaml",
    "TrainJob": "trainer.kubeflow.org_trainjobs.yaml",
    # The namespaced kind has the same specification; only the cluster's is at hand.
    "TrainingRuntime": "trainer.kubeflow.org_clustertrainingruntimes.yaml",
}


def schema_problems(manifest: dict[str, Any], versions: list[str] = VERSIONS) -> list[str]:
    """Of a built-in object, and of the pods and Jobs inside a custom one."""
    group = str(manifest.get("apiVersion")).split("/")[0]
    if "." not in group or (group.endswith(".k8s.io") and not group.startswith("jobset")):
        inside = [manifest]
    else:
        inside = [
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"} | pod.get("metadata", {}), **_spec(pod)}
            for pod in pods(manifest)
        ]
        inside += [
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": job} for job in jobs(manifest)
        ]
    return [problem for one in inside for version in versions for problem in _builtin(one, version)]


def _spec(pod: dict[str, Any]) -> dict[str, Any]:
    """A template may leave the containers' names to the operator, but not its fields' types."""
    return {"spec": pod.get("spec")}


def _builtin(manifest: dict[str, Any], version: str) -> Iterator[str]:
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{version}: {error.message}"
    except (kubernetes_validate.InvalidSchemaError, TypeError, AttributeError, ValueError) as error:
        yield f"{version}: {error!r}"  # an apiVersion or kind that there is not


def has_crd(kind: str) -> bool:
    return kind in _CRD_FILES and CRDS.is_dir()


def crd_problems(manifest: dict[str, Any]) -> list[str]:
    """Against the CRD's OpenAPI schema, with unknown fields refused as a strict server does."""
    kind = str(manifest.get("kind"))
    if kind not in _CRD_FILES:
        return [f"kind {kind}"]
    crd = _crd(kind)
    if manifest.get("apiVersion") not in [f"{crd['group']}/{version['name']}" for version in crd["versions"]]:
        return [f"apiVersion {manifest.get('apiVersion')}"]
    if set(manifest) - {"apiVersion", "kind", "metadata", "spec"} or "spec" not in manifest:
        return [f"top level: {sorted(manifest)}"]
    return [
        f"{'.'.join(map(str, error.path))}: {error.message}"
        for error in _validator(kind).iter_errors({"spec": manifest["spec"]})
    ]


@cache
def _crd(kind: str) -> dict[str, Any]:
    text = (CRDS / _CRD_FILES[kind]).read_text()
    spec: dict[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)["spec"]  # a megabyte: PyYAML's own takes seconds
    return spec


@cache
def _validator(kind: str) -> jsonschema.Draft202012Validator:
    version = next(v for v in _crd(kind)["versions"] if v.get("storage"))
    schema = _closed(version["schema"]["openAPIV3Schema"])
    return jsonschema.Draft202012Validator({"type": "object", "properties": {"spec": schema["properties"]["spec"]}})


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _closed(value) for key, value in schema.items()}
    free = "additionalProperties" in found or found.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(found.get("properties"), dict) and not free:
        found["additionalProperties"] = False
    return found
