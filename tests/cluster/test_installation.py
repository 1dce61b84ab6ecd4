"""The second walk from end to end, on a cluster: chart, manifests, a message, a task, a killed pod,
an upgrade, the end. The tests stand in the order in which somebody would do all this, and share one
installation.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from itertools import product
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tests.support.installation import EXAMPLES, FIGURES, SENDER, SYSTEM, TEAM, Installation
from tests.support.installation import installation as made_installation
from tests.support.kubernetes.cluster import KubernetesCluster
from tests.support.scripted_provider import Rule

# The first test waits for image and installation, too.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

_TASK_PROMPT = "Name one thing that is worth doing in the next hour."
_TWIN, _TWIN_PROMPT = "twin", "Of the twin"
# Permissions by which Kubernetes itself asks, as the account of a pod.
_OF_EVERY_ACCOUNT = {("selfsubjectreviews", "create"), ("selfsubjectrulesreviews", "create")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installed(
    cluster: KubernetesCluster,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Installation]:
    """The chart installed; nothing is applied yet."""
    folder = tmp_path_factory.mktemp("installation")
    async with made_installation(cluster, folder) as installation:
        yield installation
        request.config.stash.setdefault(FIGURES, {}).update(installation.figures)


async def test_all_pods_run_restricted_and_by_few_mebibytes(installed: Installation) -> None:
    pods = (await installed.get("pods", namespace=SYSTEM))["items"]
    assert {pod["status"]["phase"] for pod in pods} == {"Running"}
    assert {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods} == {
        *("channels", "executor", "gateway", "operator", "policy", "router", "scheduler")
    }
    restarts = [each["restartCount"] for pod in pods for each in pod["status"]["containerStatuses"]]
    assert restarts == [0] * len(pods)
    sizes = {pod["metadata"]["labels"]["app.kubernetes.io/component"]: 0 for pod in pods}
    for name in sizes:
        (process,) = installed.processes(name)
        sizes[name] = process.memory_info().rss // 2**20
    installed.figures["pods_mib"] = sizes
    assert max(sizes.values()) < 256


async def test_the_examples_become_ready_by_kubectl_apply_alone(installed: Installation) -> None:
    installed.bot.add_chat(SENDER, "private", name="Ada")
    await installed.cluster.kubectl("apply", f"--kustomize={EXAMPLES}", f"--namespace={TEAM}")
    await installed.until_ready(
        "modelprovider/openai", "agent/assistant", "channel/telegram", "route/telegram",
        "task/hourly",
    )  # fmt: skip


async def test_a_message_is_answered(installed: Installation) -> None:
    installed.say("Hello")
    await installed.until_answered("You said: Hello")
    call = next(call for call in installed.provider.calls if call.key == "Hello")
    assert call.authorization == "Bearer stub-key"
    assert call.model == "gpt-4.1-mini"


async def test_the_task_ran_at_once_and_kubectl_shows_it(installed: Installation) -> None:
    await installed.until_answered(f"You said: {_TASK_PROMPT}")
    assert installed.answers(f"You said: {_TASK_PROMPT}") == 1

    async def is_told() -> bool:
        shown = await installed.cluster.kubectl("get", "tasks", f"--namespace={TEAM}")
        header, row = shown.splitlines()
        told = dict(zip(header.split(), row.split(), strict=False))
        return "succeeded" in row and told["AGENT"] == "assistant" and row.endswith("True")

    await installed.until(is_told, "the task's result in kubectl get tasks")
    task = await installed.get("task", "hourly")
    assert task["status"]["runNow"] == "1"


async def test_the_channel_shows_who_it_is_and_that_it_is_connected(
    installed: Installation,
) -> None:
    async def is_connected() -> bool:
        status = (await installed.get("channel", "telegram"))["status"]
        return bool(status.get("connected") and status.get("identity"))

    await installed.until(is_connected, "the channel to be connected")
    status = (await installed.get("channel", "telegram"))["status"]
    assert status["identity"]["username"] == installed.bot.username


async def test_the_plugin_reaches_the_gateway_and_acts_in_the_contexts_namespace(
    installed: Installation,
) -> None:
    done = await installed.plugin("agents", "list")
    assert done.returncode == 0, done.stderr
    assert "assistant" in done.stdout
    elsewhere = await installed.plugin("agents", "list", "--namespace=default")
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert "assistant" not in elsewhere.stdout


async def test_a_run_whose_pod_is_killed_is_finished_once(installed: Installation) -> None:
    held = threading.Event()
    rule = Rule(match="^Think long$", hold=held, times=1)
    installed.provider.rules.append(rule)
    installed.say("Think long")

    async def is_asked() -> bool:
        return installed.provider.count("Think long") == 1

    await installed.until(is_asked, "the model to be asked")
    installed.kill("executor")
    await installed.until_answered("You said: Think long")
    held.set()
    installed.say("Are you there?")
    await installed.until_answered("You said: Are you there?")
    assert installed.answers("You said: Think long") == 1


async def test_two_namespaces_with_equal_names_share_nothing(installed: Installation) -> None:
    await installed.cluster.kubectl("create", "namespace", _TWIN)
    twins = yaml.safe_dump_all(_twins(await installed.cluster.kubectl("kustomize", str(EXAMPLES))))
    within = f"--namespace={_TWIN}"
    await installed.cluster.kubectl("apply", "--filename=-", within, stdin=twins)

    async def is_secret_missed() -> bool:
        words = ("modelprovider", "openai", "ResolvedRefs", _TWIN)
        found = await installed.condition(*words)
        return found.get("status") == "False" and "openai" in found["message"]

    # That of the other namespace, under the same name, is not theirs.
    await installed.until(is_secret_missed, "the missing Secret to be named")
    secret = ("secret", "generic", "openai", "--from-literal=api-key=twin-key")
    await installed.cluster.kubectl("create", *secret, within)
    await installed.until_ready("modelprovider/openai", namespace=_TWIN)

    async def has_run() -> bool:
        status = (await installed.get("task", "hourly", namespace=_TWIN))["status"]
        return (status.get("runNow"), status.get("lastResult")) == ("1", "succeeded")

    await installed.until(has_run, "the twin's task")
    calls = [call for call in installed.provider.calls if _TWIN_PROMPT in call.key]
    assert {call.authorization for call in calls} == {"Bearer twin-key"}
    assert (await installed.plugin("task", "list", within)).stdout.count("hourly") == 1
    installed.say("Still mine?")
    await installed.until_answered("You said: Still mine?")


async def test_an_upgrade_loses_no_message(installed: Installation) -> None:
    said: list[str] = []
    stop = asyncio.Event()

    async def talk() -> None:
        while not stop.is_set():
            said.append(f"Line {len(said)}")
            installed.say(said[-1])
            await asyncio.sleep(2)

    talking = asyncio.create_task(talk())
    try:
        await installed.upgrade(shutdown={"drainSeconds": 3, "graceSeconds": 11})
    finally:
        stop.set()
        await talking
    await installed.until_answered(*(f"You said: {text}" for text in said), timeout_s=180)
    assert [installed.answers(f"You said: {text}") for text in said] == [1] * len(said)
    installed.figures["messages_during_upgrade"] = len(said)


async def test_what_was_deleted_is_gone_from_the_services(installed: Installation) -> None:
    await installed.cluster.kubectl("delete", "namespace", _TWIN, "--wait=false")

    async def is_gone() -> bool:
        return (
            "hourly" not in (await installed.plugin("task", "list", f"--namespace={_TWIN}")).stdout
        )

    await installed.until(is_gone, "the twin's task to go")


async def test_permissions_are_exactly_what_was_used(installed: Installation) -> None:
    used: set[tuple[str, str, str, str]] = set()
    for each in installed.cluster.audit():
        prefix = f"system:serviceaccount:{SYSTEM}:"
        if each.user.startswith(prefix) and (each.resource, each.verb) not in _OF_EVERY_ACCOUNT:
            # In a namespace that is being deleted, nobody may make anything.
            assert each.code != 403 or each.namespace == _TWIN, each
            resource = f"{each.resource}/{each.subresource}".removesuffix("/")
            used.add((each.user.removeprefix(prefix), each.group, resource, each.verb))
    assert used == await _granted(installed)


async def test_nothing_but_definitions_and_resources_is_left_by_an_uninstall(
    installed: Installation,
) -> None:
    await installed.uninstall()
    objects = "deployments,statefulsets,services,configmaps,serviceaccounts,roles,secrets,leases"
    left = (await installed.get(objects, namespace=SYSTEM))["items"]
    names = {(each["kind"], each["metadata"]["name"]) for each in left}
    # The Lease is the operator's own, and the Secret the user's.
    kept = {
        *(("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")),
        *(("Secret", "database"), ("Lease", "fased-operator")),
    }
    assert names <= kept, names - kept
    tasks = await installed.get("tasks")
    assert [each["metadata"]["name"] for each in tasks["items"]] == ["hourly"]


def _twins(rendered: str) -> list[Any]:
    """The examples without what a bot is needed for: two cannot poll one bot."""
    kinds = ("Agent", "ModelProvider", "Task")
    twins = [each for each in yaml.safe_load_all(rendered) if each["kind"] in kinds]
    (task,) = (each for each in twins if each["kind"] == "Task")
    del task["spec"]["delivery"]
    task["spec"]["prompt"] = _TWIN_PROMPT
    return twins


async def _granted(installed: Installation) -> set[tuple[str, str, str, str]]:
    """Who may do what by the chart: account, group, resource, verb."""
    rendered = await installed.cluster.helm("get", "manifest", "fased", f"--namespace={SYSTEM}")
    objects: list[Any] = [each for each in yaml.safe_load_all(rendered) if each]
    roles = {
        (each["kind"], each["metadata"]["name"]): each["rules"]
        for each in objects
        if each["kind"] in ("Role", "ClusterRole")
    }
    granted = set()
    for binding in objects:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        rules = roles[binding["roleRef"]["kind"], binding["roleRef"]["name"]]
        for subject, rule in product(binding["subjects"], rules):
            account = subject["name"]
            for group, resource, verb in product(
                rule["apiGroups"], rule["resources"], rule["verbs"]
            ):
                granted.add((account, group, resource, verb))
    return granted
