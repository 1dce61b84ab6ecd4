"""What the operator asks of the apiserver, by its audit log: no more than it may, and nothing that
it does not have to.
"""

from functools import partial
from pathlib import Path

import yaml

from tests.support.kubernetes.apiserver import Apiserver
from tests.support.kubernetes.audit import Request
from tests.support.member import Member
from tests.support.operators import (
    RULES,
    Operated,
    eventually,
    manifest,
    operated,
    secret,
    task,
)

WRITES = {"create", "update", "patch", "delete"}
SETTLED = "fased_reconciles_waiting 0.0"


async def looked_at(operator: Member) -> float:
    """How many resources it has looked at while nothing waits, else 0."""
    lines = (await operator.metrics()).splitlines()
    done = [line for line in lines if line.startswith("fased_reconciles_total")]
    seen = sum(float(line.split()[-1]) for line in done if "put_off" not in line)
    return seen if SETTLED in lines else 0


def asked(own_apiserver: Apiserver, cluster: Operated, mark: int) -> list[Request]:
    user = f"operator-{cluster.here}"
    return [each for each in own_apiserver.audit(mark) if each.user == user]


async def make_all(cluster: Operated, own_apiserver: Apiserver) -> int:
    """Resources of every kind, some Ready and some not; gives how many."""
    key = {"secretKeyRef": {"name": "keys", "key": "key"}}
    await secret(own_apiserver, "keys", cluster.here, key="sk-none")
    many = [task(f"task-{number}", cluster.here) for number in range(20)]
    await cluster.apply(
        manifest("ModelProvider", "openai", cluster.here, credential=key),
        manifest("Agent", "main", cluster.here, model="openai/one"),
        manifest("Route", "all", cluster.here, agent="main", match={"channel": "webchat"}),
        manifest("Channel", "bot", cluster.here, type="telegram", enabled=False, credential=key),
    )
    await cluster.until_ready("ModelProvider", "openai", cluster.here)
    await cluster.until_condition("Agent", "main", cluster.here, "Ready", "READY")
    await cluster.until_condition("Route", "all", cluster.here, "Ready", "READY")
    await cluster.until_condition("Channel", "bot", cluster.here, "Ready", "CHANNEL_DISABLED")
    odd = {"cron": {"expression": "61 * * * *"}}
    await cluster.apply(
        task("odd", cluster.here, trigger=odd), task("lost", cluster.here, agent="nobody"), *many
    )
    await cluster.until_condition("Task", "odd", cluster.here, "Ready", "INVALID_CRON")
    await cluster.until_condition("Task", "lost", cluster.here, "Ready", "AGENT_MISSING")
    for each in many:
        await cluster.until_ready("Task", each["metadata"]["name"], cluster.here)
    return 6 + len(many)


async def test_a_restart_writes_nothing_but_the_lease_and_all_it_asks_is_in_its_role(
    own_apiserver: Apiserver, database_url: str, tmp_path: Path
) -> None:
    async with operated(own_apiserver, database_url, tmp_path) as cluster:
        began = own_apiserver.audit_mark()
        operator = await cluster.start()
        made = await make_all(cluster, own_apiserver)
        statuses = [
            each.name
            for each in asked(own_apiserver, cluster, began)
            if each.resource == "tasks" and each.subresource == "status" and "task-" in each.name
        ]
        assert len(statuses) == len(set(statuses)), "a status was written twice"
        # The Agent counts its tasks at the next poll.
        await cluster.until(
            "Agent", "main", cluster.here, lambda status: status.get("tasks") == made - 6
        )
        await cluster.end()
        mark = own_apiserver.audit_mark()
        await operator.start(cluster.environment)
        await operator.until_serving()
        await eventually(partial(looked_at, operator), lambda seen: seen >= made)
        written = {each.resource for each in asked(own_apiserver, cluster, mark)
                   if each.verb in WRITES}  # fmt: skip
        assert written == {"leases"}
        rules = next(iter(yaml.safe_load_all(RULES)))["rules"]
        allowed = {
            (verb, group, resource)
            for rule in rules
            for verb in rule["verbs"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        }
        used = {
            (each.verb, each.group, "/".join(filter(None, (each.resource, each.subresource))))
            for each in asked(own_apiserver, cluster, began)
        }
        assert used - allowed == set()
        assert {each.code for each in asked(own_apiserver, cluster, began)} & {401, 403} == set()
