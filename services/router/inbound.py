"""What becomes of inbound events: of those that the gate lets through a command is carried out, and
any other message becomes a run.

Decides only the order of the two; the gate is `gate.py`, routes are `core/routing.py`, sessions
`placing.py`, commands `commands/`. A batch is of one partition and in order, so a command comes
after the messages before it were enqueued and before the next are placed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from fased.api.scheduler.v1 import queue_service_pb2 as queue_pb
from fased.api.scheduler.v1 import queue_service_pb2_grpc
from fased.api.types.v1 import message_pb2
from fased.bus.port import Received
from fased.core import routing
from fased.core.command_words import parse_command
from fased.core.commands import Command
from fased.core.errors import FasedError, InvalidArgument
from fased.core.messages import InboundEvent
from fased.core.names import Namespace
from fased.core.route_table import RoutingTable
from fased.core.runs import (
    ExecutionMode,
    NewRun,
    RunBody,
    RunClass,
    RunInput,
    Trigger,
    session_lane,
)
from fased.process import Host
from fased.wire.messages import inbound_from_pb
from fased.wire.runs import new_run_to_pb
from services.router.commands.carry_out import carry_out
from services.router.commands.chat import Chat, Services, target_of
from services.router.gate import Gate
from services.router.placing import Placed, Routed, place
from services.router.tables import KnownAgent, RoutingTables

_Known = tuple[RoutingTable, tuple[KnownAgent, ...]]

_TRACE = ("traceparent", "tracestate")

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A message on its way to its session and its run."""

    routed: Routed
    context_lines: tuple[str, ...]
    trace: dict[str, str]


class Inbound:
    """The effect of the inbound consumer."""

    def __init__(self, host: Host, tables: RoutingTables) -> None:
        self._host = host
        self._tables = tables
        self._gate = Gate(host)
        self._services = Services.of(host)
        self._queue = queue_service_pb2_grpc.QueueServiceStub(host.client("scheduler"))

    async def __call__(self, records: Sequence[Received]) -> None:
        """Gate and route a batch of one partition; raises what makes the batch come again."""
        events = [_event(record) for record in records]
        commands = [_command(event) for event in events]
        screened = await self._gate.screen(
            [(event, command is not None) for event, command in zip(events, commands, strict=True)]
        )
        waiting: list[_Waiting] = []
        known: dict[Namespace, _Known] = {}
        for record, event, command, each in zip(records, events, commands, screened, strict=True):
            if not each.is_admitted:
                continue
            if event.namespace not in known:
                known[event.namespace] = await self._tables.read(event.namespace)
            table, agents = known[event.namespace]
            routed = _route(event, table)
            if command is None:
                waiting.append(_Waiting(routed, each.context_lines, _trace(record)))
                continue
            await self._enqueue(waiting)
            waiting = []
            [placed] = await place(self._host.database.queue, [routed])
            await carry_out(self._host, Chat(placed, agents, self._services), command)
            del known[event.namespace]  # a command may change what routing knows
        await self._enqueue(waiting)

    async def _enqueue(self, waiting: Sequence[_Waiting]) -> None:
        placed = await place(self._host.database.queue, [each.routed for each in waiting])
        if not placed:
            return
        items = [
            queue_pb.EnqueueItem(
                namespace=session.routed.event.namespace,
                key=session.routed.event.event_id,
                runs=[new_run_to_pb(_run(session, each))],
            )
            for session, each in zip(placed, waiting, strict=True)
        ]
        await self._queue.EnqueueRuns(queue_pb.EnqueueRunsRequest(items=items))


def _event(record: Received) -> InboundEvent:
    return inbound_from_pb(message_pb2.InboundEvent.FromString(record.value))


def _route(event: InboundEvent, table: RoutingTable) -> Routed:
    decision = routing.resolve_route(table, routing.route_input(event))
    for finding in decision.findings:
        logger.warning("route_odd", namespace=event.namespace, reason=finding.reason)
    return Routed(event, decision, table.session)


def _command(event: InboundEvent) -> Command | FasedError | None:
    try:
        return parse_command(event.text)
    except InvalidArgument as exc:
        return exc


def _run(placed: Placed, waiting: _Waiting) -> NewRun:
    event, session = placed.routed.event, placed.session
    return NewRun(
        namespace=event.namespace,
        lane=session_lane(session.session_key),
        run_class=RunClass.MESSAGE,
        body=RunBody(
            agent_id=placed.routed.decision.agent_id,
            session_key=session.session_key,
            session_id=session.session_id,
            mode=ExecutionMode.AGENT_TURN,
            trigger=Trigger.MESSAGE,
            inputs=(
                RunInput(
                    event.event_id, event.text, event.sender, event.received_at, event.reply_to
                ),
            ),
            target=target_of(event),
            model=session.model,
            correlation_id=event.event_id,
            trace=waiting.trace,
            context_lines=waiting.context_lines,
        ),
    )


def _trace(record: Received) -> dict[str, str]:
    return {name: record.headers[name] for name in _TRACE if name in record.headers}
