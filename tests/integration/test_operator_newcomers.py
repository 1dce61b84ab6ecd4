"""What `kubectl get` and `kubectl describe` tell somebody whose resource does not work yet, and
that it heals when what was missing is there.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.kubernetes.apiserver import Apiserver
from tests.support.operators import Operated, manifest, operated, secret, task

PROVIDER = {"baseUrl": "http://127.0.0.1:9/v1"}
CREDENTIAL = {"secretKeyRef": {"name": "keys", "key": "openai"}}


@pytest.fixture
async def cluster(
    own_apiserver: Apiserver, database_url: str, tmp_path: Path
) -> AsyncIterator[Operated]:
    async with operated(own_apiserver, database_url, tmp_path) as one:
        await one.start()
        yield one


async def described(cluster: Operated, kind: str, name: str) -> str:
    return await cluster.kubernetes.kubectl(
        "describe", kind.lower(), name, f"--namespace={cluster.here}"
    )


async def test_a_missing_secret_is_named_and_heals_when_it_is_there(cluster: Operated) -> None:
    await cluster.apply(
        manifest("ModelProvider", "openai", cluster.here, **PROVIDER, credential=CREDENTIAL)
    )
    found = await cluster.until_condition(
        "ModelProvider", "openai", cluster.here, "ResolvedRefs", "SECRET_MISSING"
    )
    assert found["status"] == "False"
    assert "keys" in found["message"]
    assert "openai" in found["message"]
    assert cluster.here in found["message"]
    text = await described(cluster, "ModelProvider", "openai")
    assert "Warning  SECRET_MISSING" in text
    await secret(cluster.kubernetes, "keys", cluster.here, openai="sk-none")
    await cluster.until_ready("ModelProvider", "openai", cluster.here)
    text = await described(cluster, "ModelProvider", "openai")
    assert "Normal   READY" in text
    assert "sk-none" not in text


async def test_what_a_missing_secret_keeps_from_working_says_so_and_runs_when_it_is_there(
    cluster: Operated,
) -> None:
    asked = {"fased.dev/run-now": "1"}
    await cluster.apply(
        manifest("ModelProvider", "openai", cluster.here, **PROVIDER, credential=CREDENTIAL),
        manifest("Agent", "main", cluster.here, model="openai/small"),
        task("hourly", cluster.here, mode="agent-turn", annotations=asked),
    )
    for kind, name in (("Agent", "main"), ("Task", "hourly")):
        found = await cluster.until_condition(kind, name, cluster.here, "Ready", "SECRET_MISSING")
        assert "provider openai" in found["message"]
        assert "keys" in found["message"]
    body = await cluster.until("Task", "hourly", cluster.here, lambda status: True)
    assert "runNow" not in body["status"]
    await secret(cluster.kubernetes, "keys", cluster.here, openai="sk-none")
    await cluster.until_ready("Agent", "main", cluster.here)
    await cluster.until("Task", "hourly", cluster.here, lambda status: status.get("runNow") == "1")


async def test_a_channels_missing_secret_is_named(cluster: Operated) -> None:
    account = {"type": "telegram", "account": "ops", "apiBase": "http://127.0.0.1:9"}
    credential = {"secretKeyRef": {"name": "bot", "key": "token"}}
    await cluster.apply(manifest("Channel", "ops", cluster.here, **account, credential=credential))
    found = await cluster.until_condition("Channel", "ops", cluster.here, "Ready", "SECRET_MISSING")
    assert "bot" in found["message"]
    assert "token" in found["message"]
    await secret(cluster.kubernetes, "bot", cluster.here, token="1000001:stub-token")
    body = await cluster.until(
        "Channel", "ops", cluster.here,
        lambda status: any(
            each["type"] == "ResolvedRefs" and each["status"] == "True"
            for each in status.get("conditions", [])
        ),
    )  # fmt: skip
    assert body["status"]["connected"] is False


async def test_an_unknown_agent_is_named_and_heals_when_it_is_there(cluster: Operated) -> None:
    match = {"channel": "webchat"}
    await cluster.apply(
        task("hourly", cluster.here, agent="helper"),
        manifest("Route", "support", cluster.here, agent="helper", match=match),
        manifest("Agent", "main", cluster.here),
    )
    found = await cluster.until_condition(
        "Task", "hourly", cluster.here, "ResolvedRefs", "AGENT_MISSING"
    )
    assert "There is no Agent helper." in found["message"]
    found = await cluster.until_condition(
        "Route", "support", cluster.here, "ResolvedRefs", "BINDING_TARGET_MISSING"
    )
    assert "helper, which does not exist" in found["message"]
    await cluster.apply(manifest("Agent", "helper", cluster.here))
    await cluster.until_ready("Task", "hourly", cluster.here)
    await cluster.until_ready("Route", "support", cluster.here)
    words = ("delete", "agent", "helper", f"--namespace={cluster.here}")
    await cluster.kubernetes.kubectl(*words)
    await cluster.until_condition("Task", "hourly", cluster.here, "Ready", "AGENT_MISSING")
    await cluster.until_condition(
        "Route", "support", cluster.here, "Ready", "BINDING_TARGET_MISSING"
    )


async def test_a_bad_cron_expression_is_refused_with_the_words_of_the_cli(
    cluster: Operated,
) -> None:
    trigger = {"cron": {"expression": "61 * * * *"}}
    await cluster.apply(
        manifest("Agent", "main", cluster.here), task("odd", cluster.here, trigger=trigger)
    )
    found = await cluster.until_condition("Task", "odd", cluster.here, "Ready", "INVALID_CRON")
    assert "61" in found["message"]
    text = await described(cluster, "Task", "odd")
    assert "INVALID_CRON" in text
    # What is refused is not kept in part: an edit makes it whole.
    trigger = {"cron": {"expression": "1 * * * *"}}
    await cluster.apply(task("odd", cluster.here, trigger=trigger))
    status = await cluster.until_ready("Task", "odd", cluster.here)
    assert status["trigger"] == "cron 1 * * * * (UTC)"
    assert status["nextTime"].endswith(":01:00Z")


async def test_a_missing_model_role_is_named_and_heals_when_the_agent_has_it(
    cluster: Operated,
) -> None:
    await cluster.apply(
        manifest("ModelProvider", "own", cluster.here, **PROVIDER),
        manifest("Agent", "main", cluster.here, model="own/large"),
        task("watch", cluster.here, mode="auto"),
    )
    found = await cluster.until_condition(
        "Task", "watch", cluster.here, "Preflight", "MISSING_CHEAP_CHECK_ROLE"
    )
    assert "Agent main has no model for the role cheapCheck" in found["message"]
    roles = {"cheapCheck": "own/small"}
    await cluster.apply(
        manifest("Agent", "main", cluster.here, model="own/large", modelRoles=roles)
    )
    # The role is there; the mode itself is not carried out yet.
    found = await cluster.until_condition(
        "Task", "watch", cluster.here, "Preflight", "MODE_UNAVAILABLE"
    )
    assert "use agent-turn or no-model" in found["message"]


async def test_a_shadowed_route_names_what_shadows_it(cluster: Operated) -> None:
    match = {"channel": "webchat"}
    await cluster.apply(
        manifest("Agent", "main", cluster.here),
        manifest("Route", "first", cluster.here, agent="main", match=match, order=-1),
        manifest("Route", "second", cluster.here, agent="main", match=match),
    )
    found = await cluster.until_condition(
        "Route", "second", cluster.here, "Ready", "BINDING_SHADOWED"
    )
    assert "first" in found["message"]
    words = ("get", "routes", f"--namespace={cluster.here}", "--no-headers")
    rows = (await cluster.kubernetes.kubectl(*words)).splitlines()
    assert ["first" in row.split()[-1] for row in rows] == [False, True]
    await cluster.until_ready("Route", "first", cluster.here)
    await cluster.kubernetes.kubectl("delete", "route", "first", f"--namespace={cluster.here}")
    await cluster.until_ready("Route", "second", cluster.here)


async def test_both_sides_of_a_tie_are_told(cluster: Operated) -> None:
    match = {"channel": "webchat"}
    await cluster.apply(
        manifest("Agent", "main", cluster.here),
        *(manifest("Route", name, cluster.here, agent="main", match=match) for name in "ab"),
    )
    for name in "ab":
        found = await cluster.until(
            "Route", name, cluster.here,
            lambda status: any(
                each["type"] == "Conflicted" and each["status"] == "True"
                for each in status.get("conditions", [])
            ),
        )  # fmt: skip
        assert found["status"]["level"]


async def test_the_second_channel_of_an_account_is_told_of_the_first(cluster: Operated) -> None:
    spec = {"type": "telegram", "credential": {"secretKeyRef": {"name": "bot", "key": "token"}}}
    await cluster.apply(manifest("Channel", "first", cluster.here, **spec))
    await cluster.until_condition("Channel", "first", cluster.here, "Accepted", "ACCEPTED")
    await cluster.apply(manifest("Channel", "second", cluster.here, **spec))
    found = await cluster.until_condition(
        "Channel", "second", cluster.here, "Accepted", "MANAGED_ELSEWHERE"
    )
    assert "the Channel first" in found["message"]
    await cluster.kubernetes.kubectl("delete", "channel", "first", f"--namespace={cluster.here}")
    await cluster.until_condition("Channel", "second", cluster.here, "Accepted", "ACCEPTED")
