"""The manifests: valid for Kubernetes, and as strict as SECURITY.md promises. Offline (`make k8s-check`)."""

import importlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from prometheus_client import REGISTRY
from typer.main import get_command

from api.metrics import Metrics
from dev.sendgrid.webhook import Signer
from mailstream.domain import topics
from mailstream.settings import PREFIX, Settings
from tests.support import manifests
from tests.support.manifests import K8S, Manifest, name_of, pod_spec

pytestmark = pytest.mark.skipif(not manifests.has_kubectl(), reason=manifests.needs_kubectl)

SETS = ("local", "production", "production with all components")
#: Probes make no sense for what runs to its end.
ENDLESS = ("Deployment", "StatefulSet")


@pytest.fixture(params=SETS, scope="module")
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sequence[Manifest]:
    overlay = request.param.split()[0]
    if request.param == overlay:
        return manifests.built(K8S / "overlays" / overlay)
    return manifests.with_components(overlay, tmp_path_factory.mktemp("everything"))


@pytest.fixture
def workloads(rendered: Sequence[Manifest]) -> list[Manifest]:
    return [manifest for manifest in rendered if manifest["kind"] in manifests.WORKLOADS]


def named(rendered: Sequence[Manifest], kind: str, name: str) -> Manifest:
    return next(m for m in rendered if (m["kind"], m["metadata"]["name"]) == (kind, name))


def settings_in(rendered: Sequence[Manifest]) -> dict[str, str]:
    return next(m for m in rendered if m["metadata"]["name"].startswith("mailstream-config"))["data"]


def test_every_manifest_is_valid_for_kubernetes_with_no_unknown_field(rendered: Sequence[Manifest]) -> None:
    unknown_kinds = set()
    for manifest in rendered:
        try:
            kubernetes_validate.validate(manifest, "1.37", strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            unknown_kinds.add(manifest["kind"])

    assert unknown_kinds <= {
        "Kafka",
        "KafkaNodePool",
        "KafkaTopic",
        "KafkaUser",
        "ScaledObject",
        "PodMonitor",
        "PrometheusRule",
    }


def test_the_validation_refuses_an_unknown_field_and_a_wrong_type(rendered: Sequence[Manifest]) -> None:
    worker = named(rendered, "StatefulSet", "mailstream-worker")

    for wrong in ({"replica": 3}, {"replicas": "three"}):
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**worker, "spec": worker["spec"] | wrong}, "1.37", strict=True)


@pytest.mark.skipif("K8S_CRDS" not in os.environ, reason="K8S_CRDS names no folder with the CRD files of the operators")
def test_every_custom_resource_fits_the_definition_of_its_operator(rendered: Sequence[Manifest]) -> None:
    documents = [
        document
        for path in sorted(Path(os.environ["K8S_CRDS"]).glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    ]
    schemas = {
        (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]): version["schema"][
            "openAPIV3Schema"
        ]
        for crd in documents
        for version in crd["spec"]["versions"]
    }
    custom = [m for m in rendered if (m["apiVersion"], m["kind"]) in schemas]

    for manifest in custom:
        schema = manifests.closed(schemas[manifest["apiVersion"], manifest["kind"]])
        schema["properties"]["metadata"] = {"type": "object"}
        mistakes = [
            f"{name_of(manifest)}: {'.'.join(map(str, e.path))}: {e.message}"
            for e in jsonschema.Draft202012Validator(schema).iter_errors(manifest)
        ]
        assert not mistakes


def test_every_pod_obeys_restricted_pod_security(workloads: list[Manifest]) -> None:
    assert len(workloads) >= 3
    for workload in workloads:
        pod = pod_spec(workload)

        assert pod["securityContext"]["runAsNonRoot"] is True, name_of(workload)
        assert pod["securityContext"]["runAsUser"] > 0, name_of(workload)
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name_of(workload)
        assert pod["automountServiceAccountToken"] is False, name_of(workload)
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name_of(workload)
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume], name_of(workload)
        for container in manifests.containers(workload):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, name_of(workload)
            assert security["readOnlyRootFilesystem"] is True, name_of(workload)
            assert security["capabilities"] == {"drop": ["ALL"]}, name_of(workload)
            assert not security.get("privileged"), name_of(workload)


def test_every_namespace_enforces_it(rendered: Sequence[Manifest]) -> None:
    namespaces = [manifest for manifest in rendered if manifest["kind"] == "Namespace"]

    assert namespaces
    for namespace in namespaces:
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_container_has_requests_and_limits(workloads: list[Manifest]) -> None:
    for workload in workloads:
        for container in manifests.containers(workload):
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name_of(workload)
            assert container["resources"]["limits"].keys() == {"cpu", "memory"}, name_of(workload)


def test_whatever_runs_for_ever_has_all_three_probes(workloads: list[Manifest]) -> None:
    for workload in workloads:
        if workload["kind"] in ENDLESS:
            for container in pod_spec(workload)["containers"]:
                assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys(), name_of(workload)


def test_liveness_asks_for_the_process_and_readiness_for_its_work(rendered: Sequence[Manifest]) -> None:
    for kind, name, port in (("Deployment", "mailstream-api", 8000), ("StatefulSet", "mailstream-worker", 8001)):
        (container,) = pod_spec(named(rendered, kind, name))["containers"]

        assert container["ports"] == [{"name": "http", "containerPort": port}]
        assert container["startupProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


def test_no_image_floats(workloads: list[Manifest]) -> None:
    for workload in workloads:
        for container in manifests.containers(workload):
            repository, separator, tag = container["image"].rpartition(":")
            assert separator, f"{name_of(workload)} has no tag"
            assert repository, name_of(workload)
            assert tag != "latest", name_of(workload)


def test_the_role_is_the_argument_of_one_image(rendered: Sequence[Manifest]) -> None:
    roles = {
        name: pod_spec(named(rendered, kind, name))["containers"][0]
        for kind, name in (
            ("Deployment", "mailstream-api"),
            ("StatefulSet", "mailstream-worker"),
            ("Job", "mailstream-topics"),
        )
    }

    assert len({container["image"] for container in roles.values()}) == 1
    assert roles["mailstream-api"]["args"] == ["api"]
    assert roles["mailstream-worker"]["args"] == ["worker"]
    assert roles["mailstream-topics"]["args"] in (["topics", "apply"], ["topics", "plan"])
    assert not [name for name, container in roles.items() if "command" in container]


def test_every_variable_is_a_setting_that_exists(rendered: Sequence[Manifest]) -> None:
    known = {f"{PREFIX}{field}".upper() for field in Settings.model_fields}
    found = {
        variable
        for manifest in rendered
        if manifest["kind"] in manifests.WORKLOADS or manifest["metadata"]["name"].startswith("mailstream-config")
        for variable in manifests.variables(manifest)
        if variable.startswith("MAILSTREAM")
    }

    assert len(found) > 5
    assert found <= known


def test_the_settings_are_ones_that_the_processes_start_with(
    rendered: Sequence[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in settings_in(rendered).items():
        monkeypatch.setenv(name, value)

    settings = Settings(_env_file=None)

    assert settings.worker_host == settings.api_host == "0.0.0.0"
    assert settings.sender
    workers = named(rendered, "StatefulSet", "mailstream-worker")["spec"].get("replicas", 1)
    assert workers <= settings.partitions


def test_no_secret_stands_in_the_settings_of_production(rendered: Sequence[Manifest]) -> None:
    if any(name_of(manifest) == "Namespace mailstream-local" for manifest in rendered):
        return  # the emulator takes any key; it stands there in the open
    secret = {
        f"{PREFIX}{name}".upper()
        for name, field in Settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    }

    assert "MAILSTREAM_SENDGRID_API_KEY" in secret
    assert not secret & settings_in(rendered).keys()
    assert "MAILSTREAM_DEV" not in settings_in(rendered)


def test_a_worker_is_known_by_the_name_of_its_pod(rendered: Sequence[Manifest]) -> None:
    worker = pod_spec(named(rendered, "StatefulSet", "mailstream-worker"))["containers"][0]

    assert {"name": "MAILSTREAM_WORKER_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}} in worker["env"]


def test_a_stop_has_more_time_than_the_drain_takes(rendered: Sequence[Manifest]) -> None:
    for kind, name in (("Deployment", "mailstream-api"), ("StatefulSet", "mailstream-worker")):
        assert pod_spec(named(rendered, kind, name))["terminationGracePeriodSeconds"] == 60
    api = pod_spec(named(rendered, "Deployment", "mailstream-api"))["containers"][0]
    assert api["lifecycle"]["preStop"]["sleep"]["seconds"] == 5


def test_api_and_worker_are_spread_and_lose_one_pod_at_a_time(rendered: Sequence[Manifest]) -> None:
    for kind, name in (("Deployment", "mailstream-api"), ("StatefulSet", "mailstream-worker")):
        workload = named(rendered, kind, name)
        labels = workload["spec"]["template"]["metadata"]["labels"]

        spread = pod_spec(workload)["topologySpreadConstraints"]
        assert {rule["topologyKey"] for rule in spread} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        budget = named(rendered, "PodDisruptionBudget", name)["spec"]
        assert budget["maxUnavailable"] == 1
        for selector in (budget["selector"], workload["spec"]["selector"], *(rule["labelSelector"] for rule in spread)):
            assert selector["matchLabels"].items() <= labels.items()


def test_every_service_finds_the_port_of_its_pods(rendered: Sequence[Manifest], workloads: list[Manifest]) -> None:
    services = [manifest for manifest in rendered if manifest["kind"] == "Service"]

    assert len(services) >= 2
    for service in services:
        ports = {
            port["name"]
            for workload in workloads
            if service["spec"]["selector"].items() <= workload["spec"]["template"]["metadata"]["labels"].items()
            for container in manifests.containers(workload)
            for port in container.get("ports", ())
        }
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, name_of(service)


def test_every_pod_is_closed_until_a_policy_opens_it(rendered: Sequence[Manifest], workloads: list[Manifest]) -> None:
    policies = [manifest["spec"] for manifest in rendered if manifest["kind"] == "NetworkPolicy"]

    for workload in workloads:
        labels = workload["spec"]["template"]["metadata"]["labels"]
        selected = [p for p in policies if p["podSelector"].get("matchLabels", {}).items() <= labels.items()]
        assert any("Ingress" in policy["policyTypes"] for policy in selected), name_of(workload)
    for policy in policies:
        for rule in (*policy.get("ingress", ()), *policy.get("egress", ())):
            assert rule.get("ports"), "a rule without ports opens all of them"
            assert rule.get("from") or rule.get("to"), "a rule without peers opens it to everyone"


def test_only_the_worker_reaches_the_provider_and_nothing_private(rendered: Sequence[Manifest]) -> None:
    outside = [
        (
            policy["spec"]["podSelector"]["matchLabels"].get("app.kubernetes.io/component"),
            peer["ipBlock"],
            rule["ports"],
        )
        for policy in rendered
        if policy["kind"] == "NetworkPolicy"
        for rule in policy["spec"].get("egress", ())
        for peer in rule["to"]
        if "ipBlock" in peer
    ]

    assert outside
    for component, block, ports in outside:
        assert component == "worker"
        assert ports == [{"port": 443, "protocol": "TCP"}]
        assert block["except"]


def test_strimzi_makes_the_topics_that_the_code_expects(tmp_path: Path) -> None:
    rendered = manifests.with_components("production", tmp_path)
    settings = settings_in(rendered)
    made = {m["metadata"]["name"]: m["spec"] for m in rendered if m["kind"] == "KafkaTopic"}

    assert made.keys() == {topic.name for topic in topics.ALL}
    for topic in topics.ALL:
        spec = made[topic.name]
        assert spec["partitions"] == int(settings["MAILSTREAM_PARTITIONS"])
        assert spec["replicas"] == int(settings["MAILSTREAM_REPLICATION_FACTOR"]) == 3
        expected = dict(topic.config) | {"min.insync.replicas": "2"}
        assert {key: str(value) for key, value in spec["config"].items()} == expected


def test_each_kafka_user_may_do_its_part_and_no_more(tmp_path: Path) -> None:
    rendered = manifests.with_components("production", tmp_path)
    allowed = {
        m["metadata"]["name"]: {
            (acl["resource"]["type"], acl["resource"]["name"], operation)
            for acl in m["spec"]["authorization"]["acls"]
            for operation in acl["operations"]
        }
        for m in rendered
        if m["kind"] == "KafkaUser"
    }

    def writes(user: str) -> set[str]:
        return {name for _, name, operation in allowed[user] if operation == "Write"}

    assert writes("mailstream-audit-kafka") == set()
    assert not writes("mailstream-api-kafka") & {"email.status", "email.attempts"}
    assert {"email.attempts", "email.status"} <= writes("mailstream-worker-kafka")
    assert not [rule for rules in allowed.values() for rule in rules if rule[2] in ("All", "Create", "Delete", "Alter")]
    for name in (topics.GROUP_WORKER, topics.GROUP_TRIGGERS, topics.GROUP_CHECKPOINTS):
        assert ("group", name, "Read") in allowed["mailstream-worker-kafka"]
    for name in (topics.GROUP_WORKER, topics.GROUP_CHECKPOINTS):
        assert ("group", name, "Describe") in allowed["mailstream-audit-kafka"]


def test_keda_scales_between_two_workers_and_the_partitions(tmp_path: Path) -> None:
    rendered = manifests.with_components("production", tmp_path)
    scaled = named(rendered, "ScaledObject", "mailstream-worker")["spec"]

    assert scaled["minReplicaCount"] >= 1
    assert scaled["maxReplicaCount"] == int(settings_in(rendered)["MAILSTREAM_PARTITIONS"])
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["consumerGroup"] == topics.GROUP_WORKER
    assert trigger["metadata"]["topic"] == topics.REQUESTED.name
    assert "replicas" not in named(rendered, "StatefulSet", "mailstream-worker")["spec"]
    targets = [m["spec"]["scaleTargetRef"]["name"] for m in rendered if m["kind"] == "HorizontalPodAutoscaler"]
    assert "mailstream-worker" not in targets


def test_alerts_and_dashboard_ask_only_for_metrics_that_exist(tmp_path: Path) -> None:
    rendered = manifests.with_components("production", tmp_path)
    rules = named(rendered, "PrometheusRule", "mailstream")["spec"]
    dashboard = named(rendered, "ConfigMap", "mailstream-dashboard")["data"]["dashboard.json"]
    text = "\n".join([*expressions(rules), dashboard])

    asked = {word for word in _words(text) if word.startswith("mailstream_")}

    assert len(asked) > 15
    assert asked <= _exported()


def _exported() -> set[str]:
    """The names under which worker and API show their metrics."""
    importlib.import_module("streams.metrics")
    families = [*REGISTRY.collect(), *Metrics().registry.collect()]
    endings = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
    return {family.name + ending for family in families for ending in endings.get(family.type, ())}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="No promtool on PATH: install Debian's package prometheus")
def test_every_alert_fires_when_it_should_and_a_quiet_system_rings_for_nothing(tmp_path: Path) -> None:
    component = K8S / "components" / "prometheus"
    rules = yaml.safe_load((component / "rules.yaml").read_text())["spec"]
    cases = yaml.safe_load((component / "rules_test.yaml").read_text())
    tested = {case["alertname"] for test in cases["tests"] for case in test.get("alert_rule_test", ())}
    assert tested == {rule["alert"] for group in rules["groups"] for rule in group["rules"]}

    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    shutil.copy(component / "rules_test.yaml", tmp_path)
    done = subprocess.run(
        ["promtool", "test", "rules", "rules_test.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def expressions(rules: dict[str, Any]) -> list[str]:
    return [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def _words(text: str) -> set[str]:
    return set("".join(c if c.isalnum() or c == "_" else " " for c in text).split())


def test_the_emulator_of_the_local_overlay_is_started_in_a_way_that_it_understands_and_signs_for_the_api() -> None:
    rendered = manifests.built(K8S / "overlays" / "local")
    (container,) = pod_spec(named(rendered, "Deployment", "sendgrid"))["containers"]
    options = dict(argument.lstrip("-").split("=") for argument in container["args"][2:])
    command = get_command(importlib.import_module("cli.verbs").app)

    emulator = command.commands["dev"].commands["sendgrid"]  # type: ignore[attr-defined]
    assert container["args"][:2] == ["dev", "sendgrid"]
    assert options.keys() <= {option.lstrip("-") for parameter in emulator.params for option in parameter.opts}
    assert (
        settings_in(rendered)["MAILSTREAM_SENDGRID_WEBHOOK_KEYS"]
        == Signer(int(options["webhook-secret"], 16)).public_key
    )
