"""Kubernetes manifests as `kubectl kustomize` builds them, without a cluster."""

import functools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
#: Kinds that make pods, and so must obey the rules for pods.
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod", "ReplicaSet")

needs_kubectl = "No kubectl on PATH: install it (package kubernetes-client), it is needed for `kubectl kustomize` only"


def has_kubectl() -> bool:
    """Whether manifests can be built here."""
    return shutil.which("kubectl") is not None


@functools.cache
def built(folder: Path) -> tuple[Manifest, ...]:
    """All manifests of a kustomization. The error of kubectl is raised as it stands."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)


def with_components(overlay: str, folder: Path) -> tuple[Manifest, ...]:
    """An overlay with all components switched on, written as a kustomization beside a copy in ``folder``."""
    copy = folder / "k8s"
    if not copy.exists():
        shutil.copytree(K8S, copy)
        everything = folder / "k8s" / "everything"
        everything.mkdir()
        components = sorted(f"../components/{path.name}" for path in (K8S / "components").iterdir())
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [f"../overlays/{overlay}"],
            "components": components,
            "namespace": "mailstream",  # as when the overlay itself names the components
        }
        (everything / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return built(copy / "everything")


def name_of(manifest: Manifest) -> str:
    """Kind and name, for people."""
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def pod_spec(manifest: Manifest) -> dict[str, Any]:
    """The pod inside a workload."""
    spec = manifest["spec"]
    if manifest["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    inner: dict[str, Any] = spec if manifest["kind"] == "Pod" else spec["template"]["spec"]
    return inner


def containers(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Every container of a workload, those that only initialise too."""
    pod = pod_spec(manifest)
    yield from pod.get("initContainers", ())
    yield from pod["containers"]


def variables(manifest: Manifest) -> Iterator[str]:
    """Names of the environment variables that a workload or a ConfigMap for ``envFrom`` gives."""
    if manifest["kind"] == "ConfigMap":
        yield from manifest.get("data", {})
        return
    for container in containers(manifest):
        yield from (variable["name"] for variable in container.get("env", ()))


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A CRD schema in which unknown fields are mistakes, as the server would drop them without a word."""
    shut = {key: closed(value) if isinstance(value, dict) else value for key, value in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        shut.setdefault("additionalProperties", False)
    return shut
