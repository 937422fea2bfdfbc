"""The Kubernetes manifests fit the API's published schema, the settings, and what the compose file promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from backend.app.health import pulse
from backend.app.settings import Settings
from events import topology
from tests.contract import compose_spec
from tests.servers import ROOT

PLACE = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.29", "1.33", "1.37")
KEDA = {"ScaledObject", "TriggerAuthentication"}  # of resource definitions that the API does not publish
SECRETS = {
    "citycache-database": {"DATABASE_URL"},
    "citycache-broker": {"CELERY_BROKER_URL"},
    "citycache-api": {"API_KEY", "API_KEYS"},
}
SERVICES = {  # in docker-compose.yml, by component
    "api": "backend", "relay": "event-relay", "worker": "celery-worker", "beat": "celery-beat",
    "migrate": "migrate", "broker-policies": "broker-policies",
}  # fmt: skip
SECRET_VARIABLES = {name for names in SECRETS.values() for name in names}


def resources() -> list[dict[str, Any]]:
    texts = (path.read_text(encoding="utf-8") for path in sorted(PLACE.glob("*.yaml")))
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [found for found in resources() if found["kind"] in kinds]


def component(found: dict[str, Any]) -> str:
    return str(found["metadata"]["labels"]["app.kubernetes.io/component"])


def pods() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Component, pod and container of each workload."""
    for found in of_kind("Deployment", "Job"):
        pod = found["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        yield component(found), pod, container


def config() -> dict[str, str]:
    (found,) = of_kind("ConfigMap")
    data: dict[str, str] = found["data"]
    return data


def secrets(container: dict[str, Any]) -> dict[str, str]:
    """Variables of a container that come from secrets, and from which."""
    return {each["name"]: each["valueFrom"]["secretKeyRef"]["name"] for each in container["env"]}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_fits_the_published_schema(version: str) -> None:
    import kubernetes_validate  # large; for this test alone

    checked = [found for found in resources() if found["kind"] not in KEDA]
    assert len(checked) >= 12
    for found in checked:
        kubernetes_validate.validate(found, version, strict=True)


def test_there_is_a_workload_for_each_service_that_compose_starts() -> None:
    services = compose_spec.load(ROOT / "docker-compose.yml", {})["services"]
    assert {name for name, _, _ in pods()} == set(SERVICES)
    for name, pod, container in pods():
        service = services[SERVICES[name]]
        assert container["command"] == service["command"], name
        assert container["image"] == service["image"], name
        given = secrets(container)
        with_secret = {variable for variable in service["environment"] if variable in SECRET_VARIABLES}
        assert set(given) == with_secret, f"{name}: secrets where they are used"
        assert all(variable in SECRETS[secret] for variable, secret in given.items()), name
        assert pod["automountServiceAccountToken"] is False


def test_every_setting_is_one_and_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    read_by_commands = {pulse.VARIABLE}
    names = {name.upper() for name in Settings.model_fields}
    for variable in {*config(), *SECRET_VARIABLES} - read_by_commands:
        assert variable in names, variable
    for name, value in config().items():
        monkeypatch.setenv(name, value)
    assert Settings().app_env == "production"


def test_nobody_is_root_or_writes_anywhere_but_tmp() -> None:
    for name, pod, container in pods():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["runAsUser"] == 10001, name
        own = container["securityContext"]
        assert own["readOnlyRootFilesystem"], name
        assert own["allowPrivilegeEscalation"] is False, name
        assert own["capabilities"] == {"drop": ["ALL"]}, name
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"], name
        assert container["resources"]["limits"]["memory"], name


def test_all_that_runs_for_ever_is_probed_and_has_a_budget_that_lets_a_node_be_emptied() -> None:
    selectors = {found["metadata"]["name"]: found["spec"] for found in of_kind("PodDisruptionBudget")}
    for found in of_kind("Deployment"):
        (container,) = found["spec"]["template"]["spec"]["containers"]
        assert {"startupProbe", "livenessProbe"} <= set(container), found["metadata"]["name"]
        budget = selectors[found["metadata"]["name"]]
        assert budget["selector"] == found["spec"]["selector"]
        assert budget["maxUnavailable"] == 1
        labels = found["spec"]["template"]["metadata"]["labels"]
        assert found["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_service_leads_to_the_api() -> None:
    (service,) = of_kind("Service")
    ((container, labels),) = [
        (found["spec"]["template"]["spec"]["containers"][0], found["spec"]["template"]["metadata"]["labels"])
        for found in of_kind("Deployment")
        if component(found) == "api"
    ]
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["spec"]["ports"][0]["targetPort"] in {port["name"] for port in container["ports"]}


def test_workers_follow_the_queue_of_events() -> None:
    scaled, authentication = of_kind("ScaledObject")[0], of_kind("TriggerAuthentication")[0]
    (worker,) = [found for found in of_kind("Deployment") if component(found) == "worker"]
    assert scaled["apiVersion"] == authentication["apiVersion"] == "keda.sh/v1alpha1"
    assert scaled["spec"]["scaleTargetRef"] == {"name": worker["metadata"]["name"]}
    assert "replicas" not in worker["spec"], "two would set the number"
    assert 2 <= scaled["spec"]["minReplicaCount"] <= scaled["spec"]["maxReplicaCount"]
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == "rabbitmq"
    assert trigger["metadata"]["queueName"] == topology.UPDATER.name
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert trigger["authenticationRef"] == {"name": authentication["metadata"]["name"]}
    (host,) = authentication["spec"]["secretTargetRef"]
    assert host == {"parameter": "host", "name": "citycache-broker", "key": "CELERY_BROKER_URL"}
