"""What Prometheus is told of runs, calls and the queue, counted over the real services."""

from prometheus_client import REGISTRY

from fased.core.runs import LiveState, RunClass
from fased.store.queue import depth
from tests.support.turns import house, make_agent, message, task


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_run_is_counted_by_class_and_outcome_and_its_calls_by_method(
    database_url: str,
) -> None:
    ended = {"run_class": "message", "outcome": "succeeded"}
    runs_before = sample("fased_runs_ended_total", **ended)
    completes = {"method": "scheduler.v1.QueueService/CompleteRuns"}
    calls_before = sample("fased_rpc_seconds_count", **completes)
    async with house(database_url, {"FASED_SCRIPTED_MODEL": "echo"}) as home:
        await make_agent(home)
        assert (await home.ended(await home.enqueue(message("hello"))))["outcome"] == "succeeded"
    assert sample("fased_runs_ended_total", **ended) == runs_before + 1
    assert sample("fased_rpc_seconds_count", **completes) == calls_before + 1


async def test_the_queue_is_as_deep_as_there_are_live_runs(database_url: str) -> None:
    async with house(database_url, None) as home:
        for body in (message("one"), message("two"), task("three")):
            await home.enqueue(body)
        async with home.up.host.database.queue.acquire() as conn:
            found = await depth.read(conn)
    assert len(found) == len(LiveState) * len(RunClass)
    deep = {place: each.runs for place, each in found.items() if each.runs}
    assert sum(deep.values()) == 3
    assert all(each.oldest_s == 0.0 for each in found.values() if not each.runs)
    assert all(each.oldest_s > 0.0 for each in found.values() if each.runs)
    assert (LiveState.READY, RunClass.MESSAGE) in deep
