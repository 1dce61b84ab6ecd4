"""The queue's state machine on real PostgreSQL: every answer and every row is the model's.

Calls are made one by one, and two at once on two connections: then some order of the two must
explain both answers and all rows.
"""

import asyncio
import copy
from datetime import datetime, timedelta
from functools import partial
from itertools import permutations
from typing import Any, cast
from uuid import NAMESPACE_OID, uuid5

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from fased.core.errors import FasedError
from fased.core.names import RunId
from fased.core.queue import Completion, HeldRun
from fased.core.runs import Outcome, RunClass, RunResult
from fased.store.queue import (
    cancel,
    claim,
    delay,
    enqueue,
    finish,
    leases,
    park,
    recover,
    retry,
    rows,
    sweep,
    workers,
)
from tests.support.queue_model import LEASE_TICKS, RUN_TICKS, IllegalAnswer, Queue, answer
from tests.support.queue_rules import PERSON_KINDS, WORKER_KINDS, Call, QueueRules, pick
from tests.support.queues import (
    NAMESPACE,
    announce,
    connection,
    item,
    new_run,
    put_checkpoint,
    turn_clock,
)

# A tick is far longer than an example runs; terms end half a tick early, so that the time an
# example takes itself never decides.
TICK = timedelta(seconds=1000)
EARLY = TICK / 2
CONNECTIONS = 3
RACING = st.sampled_from(
    (*WORKER_KINDS, *PERSON_KINDS, "claim", "recover", "settle", "complete", "cancel")
)
_EMPTY = """TRUNCATE scheduler.run, scheduler.run_history, scheduler.lane, scheduler.enqueue_key,
  scheduler.worker, scheduler.claim, scheduler.checkpoint, scheduler.outbox"""
_LIVE = f"""SELECT id, lane, seq, {rows.LIVE_STATE} AS state, cancel, attempts, crashes, wake_seq
  FROM scheduler.run"""
_UNLISTED = """SELECT id FROM scheduler.run r WHERE worker IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM scheduler.claim c WHERE c.worker = r.worker AND r.id = ANY(c.run_ids))"""
_ENDED = "SELECT id, outcome FROM scheduler.run_history"


def term(ticks: int) -> timedelta:
    """A time that is over after so many ticks, and not before."""
    return ticks * TICK - EARLY


class Driver:
    """The model's calls as the store's."""

    def __init__(self, started_at: datetime) -> None:
        self.started_at = started_at
        self.now = 0

    def at(self, ticks: int) -> datetime:
        return self.started_at + self.now * TICK + term(ticks)

    async def enqueue(
        self,
        conn: Any,
        key: str,
        lanes: tuple[str, ...],
        delay: int = 0,
        parent: tuple[int, int] | None = None,
    ) -> Any:
        run_at = self.at(delay) if delay else None
        runs = [
            new_run(lane, RunClass.MANUAL, run_for=term(RUN_TICKS), run_at=run_at) for lane in lanes
        ]
        asked = HeldRun(RunId(parent[0]), parent[1]) if parent else None
        [made] = await enqueue.enqueue(conn, [item(*runs, key=key, parent=asked)])
        return made.run_ids, made.known

    async def claim(self, conn: Any, worker: str, max_runs: int) -> Any:
        worker_id = uuid5(NAMESPACE_OID, worker)
        leased = await claim.claim(conn, worker_id, max_runs, 0, term(LEASE_TICKS), [])
        return [(run.run_id, run.epoch) for run in leased]

    async def heartbeat(self, conn: Any, worker: str) -> None:
        worker_id = uuid5(NAMESPACE_OID, worker)
        await workers.heartbeat(conn, worker_id, term(LEASE_TICKS), [], TICK)

    async def complete(self, conn: Any, run_id: int, epoch: int, outcome: Outcome) -> Any:
        done = Completion(RunId(run_id), epoch, outcome, RunResult())
        [result] = await finish.complete(conn, [done], announce)
        return result.result

    async def go_on(self, conn: Any, run_id: int, epoch: int, outcome: Outcome, worker: str) -> Any:
        done = Completion(RunId(run_id), epoch, outcome, RunResult())
        worker_id = uuid5(NAMESPACE_OID, worker)
        [result], leased = await finish.complete_and_go_on(conn, [done], announce, worker_id)
        return result.result, [(run.run_id, run.epoch) for run in leased]

    async def release(self, conn: Any, run_id: int, epoch: int) -> Any:
        [result] = await finish.release(conn, [HeldRun(RunId(run_id), epoch)], announce)
        return result

    async def park(
        self, conn: Any, run_id: int, epoch: int, wake_seq: int, wake_in: int | None
    ) -> Any:
        wake_at = None if wake_in is None else self.at(wake_in)
        return await park.park(conn, HeldRun(RunId(run_id), epoch), wake_seq, wake_at, announce)

    async def reschedule(self, conn: Any, run_id: int, epoch: int, delay: int) -> Any:
        run = HeldRun(RunId(run_id), epoch)
        return await _reschedule(conn, run, self.at(delay), "NETWORK", announce)

    async def checkpoint(self, conn: Any, run_id: int, epoch: int, step: str, value: str) -> Any:
        kept = await put_checkpoint(conn, RunId(run_id), epoch, step, value)
        return None if kept is None else kept.value_json

    async def cancel(self, conn: Any, run_id: int) -> Any:
        return await cancel.cancel(conn, NAMESPACE, RunId(run_id), announce)

    async def wake(self, conn: Any, run_id: int) -> None:
        await park.wake(conn, NAMESPACE, RunId(run_id))

    async def retry(self, conn: Any, run_id: int) -> None:
        await retry.retry(conn, NAMESPACE, RunId(run_id))

    async def recover(self, conn: Any) -> None:
        await recover.recover(conn, announce)

    async def settle(self, conn: Any) -> None:
        await leases.settle(conn, timedelta(0))
        await leases.forget_claims(conn, timedelta(0))

    async def return_due(self, conn: Any) -> None:
        await delay.return_due(conn)

    async def wake_expired(self, conn: Any) -> None:
        await park.wake_expired(conn)


_reschedule = delay.reschedule


class QueueMachine(QueueRules):
    """The rules of the model, each call made to the database and to the model."""

    def __init__(self, loop: asyncio.AbstractEventLoop, conns: list[Any]) -> None:
        super().__init__()
        self.loop = loop
        self.conns = conns
        self.calls = 0
        self.run(conns[0].execute(_EMPTY))
        self.run(turn_clock(conns, timedelta(0)))
        self.driver = Driver(self.run(conns[0].fetchval("SELECT public.fased_now()")))

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def apply(self, call: Call) -> Any:
        """Make a call to the database, then to the model told of the database's numbers."""
        self.calls += 1
        conn = self.conns[self.calls % CONNECTIONS]
        expected = copy.deepcopy(self.model)
        result = self.run(self._ask(conn, call))
        if call[0] == "claim":
            assert len(result) == len(answer(expected.claim, **call[1]))
        assert told(self.model, call, result) == result
        return result

    async def _ask(self, conn: Any, call: Call) -> Any:
        self.driver.now = self.model.now
        try:
            return await getattr(self.driver, call[0])(conn, **call[1])
        except FasedError as exc:
            return exc.reason

    def turn_clock(self, ticks: int) -> None:
        super().turn_clock(ticks)
        self.run(turn_clock(self.conns, self.model.now * TICK))

    @rule(kinds=st.tuples(RACING, RACING), lease=pick, n=pick, m=pick)
    def two_speak_at_once(self, kinds: tuple[str, str], lease: int, n: int, m: int) -> None:
        # Mostly about one run.
        calls = (self.drawn(kinds[0], lease, n), self.drawn(kinds[1], lease + m % 5 // 4, m))
        results = self.run(self._race(calls))
        for order in permutations(range(2)):
            model = copy.deepcopy(self.model)
            if explains(model, [(calls[n], results[n]) for n in order]) and (
                model.snapshot() == self.rows()
            ):
                self.model = model
                for call, result in zip(calls, results, strict=True):
                    self.note(call, result)
                return
        raise AssertionError(f"no order of {calls} explains {results} and {self.rows()}")

    async def _race(self, calls: tuple[Call, Call]) -> list[Any]:
        results = await asyncio.gather(*map(self._ask, self.conns, calls))
        if any(name == "recover" for name, _ in calls):
            # What the other call had locked was skipped, and is found by the next pass.
            await self.driver.recover(self.conns[0])
        return list(results)

    def rows(self) -> tuple[dict[int, Any], dict[int, str]]:
        """What the database holds, in the model's form."""
        live = {row["id"]: tuple(row)[1:] for row in self.run(self.conns[0].fetch(_LIVE))}
        return live, dict(self.run(self.conns[0].fetch(_ENDED)))

    @invariant()
    def the_rows_are_the_models(self) -> None:
        assert self.rows() == self.model.snapshot()

    @invariant()
    def no_lane_waits_without_a_head(self) -> None:
        assert self.run(sweep.repair_headless(self.conns[0])) == 0

    @invariant()
    def what_is_leased_is_listed_under_its_worker(self) -> None:
        assert self.run(self.conns[0].fetch(_UNLISTED)) == []


def told(model: Queue, call: Call, result: Any) -> Any:
    """The model's answer to a call, with the numbers that the database chose."""
    name, kwargs = call
    if name == "enqueue" and not isinstance(result, str):
        kwargs = {**kwargs, "ids": result[0]}
    if name == "claim" and not isinstance(result, str):
        kwargs = {**kwargs, "leases": result}
    if name == "go_on" and not isinstance(result, str):
        kwargs = {**kwargs, "leases": result[1]}
    return answer(getattr(model, name), **kwargs)


def explains(model: Queue, asked: list[tuple[Call, Any]]) -> bool:
    """Whether the model gives these answers in this order; leaves it in the state after them."""
    try:
        if any(told(model, call, result) != result for call, result in asked):
            return False
    except IllegalAnswer:
        return False
    if any(name == "recover" for (name, _), _ in asked):
        model.recover()
    return True


def test_the_database_answers_as_the_model_does(database_url: str) -> None:
    loop = asyncio.new_event_loop()
    conns = [loop.run_until_complete(connection(database_url)) for _ in range(CONNECTIONS)]
    try:
        run_state_machine_as_test(
            cast(type[RuleBasedStateMachine], partial(QueueMachine, loop, conns)),
            settings=settings(
                max_examples=100,
                stateful_step_count=40,
                deadline=None,
                # Races do not repeat, so an example is neither shrunk nor kept.
                phases=(Phase.generate,),
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        for conn in conns:
            loop.run_until_complete(conn.close())
        loop.close()
