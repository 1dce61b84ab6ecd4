"""The chart as Helm renders it: what every pod has, what may be asked of the apiserver, and how a
wrong value is told. That it runs is the cluster's suite.
"""

import json
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from fased.settings import SERVICES
from services.channels.settings import Settings as ChannelsSettings
from services.executor.settings import Settings as ExecutorSettings
from services.gateway.settings import Settings as GatewaySettings
from services.operator.settings import Settings as OperatorSettings
from services.policy.settings import Settings as PolicySettings
from services.scheduler.settings import Settings as SchedulerSettings
from tests.support.kubernetes import parts
from tests.support.kubernetes.access import Kubernetes

CHART = Path(__file__).parents[2] / "charts" / "fased"
COMPONENTS = {*SERVICES, "operator"}
CONSUMERS = {"channels", "router", "scheduler", "executor"}
API_CALLERS = {"channels", "executor", "operator"}
DATABASE = "database.existingSecret=database"

# Different ways to install it, as words behind --set-json.
INSTALLATIONS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "kafka": (
        'kafka={"bootstrap":"k-0:9092,k-1:9092","existingSecret":"kafka",'
        '"sasl":{"mechanism":"SCRAM-SHA-512"},"tls":{"enabled":true,"caKey":"ca.crt"}}',
    ),
    "two namespaces": ('namespaces=["blue","green"]',),
    "tokens and webhooks": ('tokens.existingSecret="mine"', "webhooks.enabled=true"),
    "no definitions": ("crds.enabled=false",),
}

Object = Mapping[str, Any]


@cache
def rendered(*values: str, release: str = "fased") -> tuple[Object, ...]:
    """The objects of an installation in the namespace `system`."""
    done = _template(release, 'database.existingSecret="database"', *values)
    assert done.returncode == 0, done.stderr
    return tuple(each for each in yaml.safe_load_all(done.stdout) if each)


def _template(release: str, *values: str) -> "subprocess.CompletedProcess[str]":
    words = [word for value in values for word in ("--set-json", value)]
    return _helm("template", release, str(CHART), "--namespace=system", *words)


def _helm(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([parts.helm(), *words], capture_output=True, text=True, check=False)


def _of_kind(objects: tuple[Object, ...], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]


def _workloads(objects: tuple[Object, ...]) -> dict[str, Object]:
    found = _of_kind(objects, "Deployment", "StatefulSet")
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in found}


def _pods(objects: tuple[Object, ...]) -> list[Object]:
    found: list[Object] = _of_kind(objects, "Deployment", "StatefulSet", "Job")
    return [each["spec"]["template"]["spec"] for each in found]


@pytest.mark.parametrize("values", INSTALLATIONS.values(), ids=INSTALLATIONS)
def test_helm_finds_nothing_wrong(values: tuple[str, ...]) -> None:
    words = [word for value in values for word in ("--set-json", value)]
    done = _helm("lint", "--strict", str(CHART), "--set", DATABASE, *words)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", INSTALLATIONS.values(), ids=INSTALLATIONS)
async def test_an_apiserver_takes_every_object(
    values: tuple[str, ...], kubernetes: Kubernetes, tmp_path: Path
) -> None:
    objects = [dict(each) for each in rendered(*values)]
    for each in objects:
        # One that is there: whether somebody made the served namespaces is not the question.
        if "namespace" in each["metadata"]:
            each["metadata"] = {**each["metadata"], "namespace": "default"}
    manifest = tmp_path / "all.yaml"
    manifest.write_text(yaml.safe_dump_all(objects))
    said = await kubernetes.kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        f"--filename={manifest}",
    )
    assert len(said.splitlines()) == len(objects)


def test_each_service_is_one_workload_and_consumers_keep_their_names() -> None:
    workloads = _workloads(rendered())
    assert set(workloads) == COMPONENTS
    stateful = {name for name, each in workloads.items() if each["kind"] == "StatefulSet"}
    assert stateful == CONSUMERS
    for name in CONSUMERS:
        assert workloads[name]["spec"]["serviceName"] == f"fased-{name}"
        assert "FASED_KAFKA_INSTANCE_ID" in _variables(workloads[name])


@pytest.mark.parametrize("values", INSTALLATIONS.values(), ids=INSTALLATIONS)
def test_every_pod_is_restricted(values: tuple[str, ...]) -> None:
    pods = _pods(rendered(*values))
    assert len(pods) == len(COMPONENTS) + 1
    for pod in pods:
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] >= 10_000
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"]
            assert container["resources"]["limits"]["memory"]


def test_only_those_who_ask_the_apiserver_have_a_token_for_it() -> None:
    workloads = _workloads(rendered())
    holders = {
        name
        for name, each in workloads.items()
        if each["spec"]["template"]["spec"]["automountServiceAccountToken"]
    }
    assert holders == API_CALLERS
    (job,) = _of_kind(rendered(), "Job")
    assert job["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_every_service_has_probes_and_time_to_stop() -> None:
    for workload in _workloads(rendered()).values():
        pod = workload["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["grpc"] == {"port": 50051}
        (settings,) = _of_kind(rendered(), "ConfigMap")
        drain_s, grace_s = (float(settings["data"][f"FASED_{key}_S"]) for key in ("DRAIN", "GRACE"))
        assert drain_s >= 2
        assert pod["terminationGracePeriodSeconds"] > drain_s + grace_s


def test_every_service_is_called_by_a_headless_name_but_the_public_door() -> None:
    services = {each["metadata"]["name"]: each["spec"] for each in _of_kind(rendered(), "Service")}
    assert set(services) == {f"fased-{name}" for name in COMPONENTS}
    headless = {name for name, spec in services.items() if spec.get("clusterIP") == "None"}
    assert headless == set(services) - {"fased-gateway"}
    (settings,) = _of_kind(rendered(), "ConfigMap")
    for name in set(SERVICES) - {"gateway"}:
        assert settings["data"][f"FASED_{name.upper()}_ADDRESS"] == f"dns:///fased-{name}:50051"


def test_every_variable_of_the_pods_is_a_setting() -> None:
    known = {
        f"FASED_{name.upper()}"
        for settings in (
            ChannelsSettings,
            ExecutorSettings,
            GatewaySettings,
            OperatorSettings,
            PolicySettings,
            SchedulerSettings,
        )
        for name in settings.model_fields
    }
    # That of the command `fased migrate`.
    known.add("FASED_KAFKA_REPLICAS")
    objects = rendered(*INSTALLATIONS["kafka"], "webhooks.enabled=true")
    (settings,) = _of_kind(objects, "ConfigMap")
    written = set(settings["data"])
    for pod in _pods(objects):
        written |= {each["name"] for each in pod["containers"][0]["env"]}
    assert written <= known


def test_the_operator_is_told_of_no_database() -> None:
    workloads = _workloads(rendered())
    told = {name for name, each in workloads.items() if "FASED_DATABASE_URL" in _variables(each)}
    assert told == COMPONENTS - {"operator"}


def test_the_chart_makes_schemas_and_topics_before_anything_starts() -> None:
    (job,) = _of_kind(rendered(*INSTALLATIONS["kafka"]), "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["fased", "migrate"]
    names = {each["name"] for each in container["env"]}
    assert {"FASED_DATABASE_URL", "FASED_KAFKA_BOOTSTRAP", "FASED_KAFKA_PASSWORD"} <= names


def test_secrets_of_others_are_named_and_never_written() -> None:
    objects = rendered(*INSTALLATIONS["kafka"], 'tokens.existingSecret="mine"')
    assert not _of_kind(objects, "Secret")
    text = json.dumps(objects)
    for name in ("database", "kafka", "mine"):
        assert f'"name": "{name}"' in text


def test_permissions_are_for_the_whole_cluster_or_the_namespaces_that_are_served() -> None:
    everywhere = rendered()
    assert len(_of_kind(everywhere, "ClusterRole", "ClusterRoleBinding")) == 4
    listed = rendered(*INSTALLATIONS["two namespaces"])
    assert not _of_kind(listed, "ClusterRole", "ClusterRoleBinding")
    bound = [each["metadata"].get("namespace") for each in _of_kind(listed, "RoleBinding")]
    assert sorted(str(name) for name in bound) == ["None", "blue", "blue", "green", "green"]
    (settings,) = _of_kind(listed, "ConfigMap")
    assert settings["data"]["FASED_NAMESPACES"] == "blue,green"


def test_only_channels_and_the_executor_may_read_secrets() -> None:
    objects = rendered()
    readers = {
        role["metadata"]["name"]
        for role in _of_kind(objects, "ClusterRole", "Role")
        for rule in role["rules"]
        if "secrets" in rule["resources"]
    }
    accounts = {
        subject["name"]
        for binding in _of_kind(objects, "ClusterRoleBinding", "RoleBinding")
        if binding["roleRef"]["name"] in readers
        for subject in binding["subjects"]
    }
    assert accounts == {"fased-channels", "fased-executor"}


def test_two_releases_share_no_name() -> None:
    one = {(each["kind"], each["metadata"]["name"]) for each in rendered("crds.enabled=false")}
    two = rendered("crds.enabled=false", release="second")
    assert not one & {(each["kind"], each["metadata"]["name"]) for each in two}


def test_definitions_can_be_left_out() -> None:
    assert len(_of_kind(rendered(), "CustomResourceDefinition")) == 5
    assert not _of_kind(rendered("crds.enabled=false"), "CustomResourceDefinition")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("services.router.replica=2", "at '/services/router': additional properties 'replica'"),
        ("service.router.replicas=2", "additional properties 'service' not allowed"),
        ("services.router.replicas=-1", "at '/services/router/replicas': minimum"),
        ('services.router.replicas="two"', "at '/services/router/replicas': got string"),
        ('logLevel="loud"', "at '/logLevel': value must be one of 'debug', 'info'"),
        ('namespaces="default"', "at '/namespaces': got string, want array"),
        ('namespaces=["Not_One"]', "at '/namespaces/0'"),
        ('kafka.bootstrap="broker"', "at '/kafka/bootstrap'"),
        ('image.pullPolicy="Often"', "at '/image/pullPolicy'"),
        ("shutdown.drainSeconds=600", "at '/shutdown/drainSeconds': maximum"),
        ("crds.install=true", "at '/crds': additional properties 'install'"),
        ('services.executor.env=[{"value":"x"}]', "at '/services/executor/env/0': missing"),
    ],
)
def test_a_wrong_value_names_its_key(value: str, said: str) -> None:
    done = _template("fased", 'database.existingSecret="database"', value)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((), "database.existingSecret: name the Secret"),
        (
            ('kafka={"bootstrap":"k:9092","sasl":{"mechanism":"PLAIN"}}',),
            "kafka.existingSecret: name the Secret",
        ),
    ],
)
def test_what_only_the_user_knows_is_asked_for(values: tuple[str, ...], said: str) -> None:
    database = ('database.existingSecret="database"',) if values else ()
    done = _template("fased", *database, *values)
    assert done.returncode != 0
    assert said in done.stderr


def test_the_schema_is_closed_and_describes_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    open_ones, silent = [], []
    for path, part in _parts(schema, ""):
        if "properties" in part and part.get("additionalProperties") is not False:
            open_ones.append(path)
        if "$ref" not in part and not part.get("description"):
            silent.append(path)
    assert not open_ones
    assert not silent


def test_every_default_is_in_the_schema_and_every_value_has_a_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) - {"global"} == set(defaults)
    assert set(schema["properties"]["services"]["properties"]) == COMPONENTS
    for name, part in schema["properties"].items():
        if name not in ("global", "services") and "properties" in part:
            assert set(part["properties"]) == set(defaults[name]), name


async def test_what_the_chart_made_up_is_kept(kubernetes: Kubernetes) -> None:
    """A token that changed with an upgrade would lock everybody out."""
    await kubernetes.kubectl("create", "namespace", "kept-tokens")
    words = (
        "--namespace=kept-tokens",
        f"--set={DATABASE}",
        "--set=crds.enabled=false",
        "--no-hooks",
    )
    read = ("get", "secret", "fased-tokens", "--namespace=kept-tokens", "--output=jsonpath={.data}")
    await kubernetes.helm("install", "fased", str(CHART), *words)
    before = await kubernetes.kubectl(*read)
    await kubernetes.helm("upgrade", "fased", str(CHART), *words, "--set=logLevel=debug")
    assert await kubernetes.kubectl(*read) == before
    assert {"service-token", "admin-token"} == set(json.loads(before))
    await kubernetes.helm("uninstall", "fased", "--namespace=kept-tokens", "--no-hooks")


def _variables(workload: Object) -> set[str]:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return {each["name"] for each in container["env"]}


def _parts(schema: Any, path: str) -> list[tuple[str, Any]]:
    found = [(path, schema)] if path else []
    for key in ("properties", "$defs"):
        for name, part in schema.get(key, {}).items():
            found += _parts(part, f"{path}.{name}")
    if isinstance(schema.get("items"), dict) and "properties" in schema["items"]:
        found += _parts(schema["items"], f"{path}[]")
    return found
