"""The gate's place on a message's way: before its route, its session and its run.

Decides nothing itself: what becomes of a message is `core/gate.py`, what a stranger is told
`core/pairing.py`. A stranger's request, its event's mark and its notice are one transaction, so
that a redelivered event makes none of them again.
"""

import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from fased.bus import topics
from fased.core import gate as core_gate
from fased.core import pairing
from fased.core.errors import Aborted
from fased.core.events import OutboxEvent
from fased.core.gate import GateDecision, GateReason, Verdict
from fased.core.messages import InboundEvent, MessageKind, OutboundMessage, bus_key
from fased.core.names import AgentId, SessionKey, canonical_account, canonical_channel
from fased.core.pairing import PairingRequest
from fased.process import Host
from fased.store import outbox
from fased.store.router import effects, group_history, pairings
from fased.store.router import gate as gates
from fased.store.router.gate import Arrival, Standing
from fased.store.router.group_history import HistoryLine
from fased.telemetry import metrics
from fased.wire.messages import outbound_to_pb
from services.router.commands.chat import target_of

SCHEMA = "router"
_NOTICES = uuid.UUID("5d5c4f43-0e0c-4d43-8b0f-9d1f6f3a7c52")

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Screened:
    """What became of a message; `context_lines` are what its group said before, for its run."""

    decision: GateDecision
    context_lines: tuple[str, ...] = ()

    @property
    def is_admitted(self) -> bool:
        """Whether it goes on to its route."""
        return self.decision.verdict is Verdict.ADMIT


class Gate:
    """Lets messages through or not."""

    def __init__(self, host: Host) -> None:
        self._pool = host.database.queue
        self._hints = host.hints

    async def screen(self, messages: Sequence[tuple[InboundEvent, bool]]) -> list[Screened]:
        """What becomes of messages, each with whether it is a command, in their places.

        Done again for the same messages it keeps and tells nothing twice.
        """
        standings = await self._standings([event for event, _ in messages])
        screened: list[Screened] = []
        kept: list[InboundEvent] = []
        for (event, is_command), standing in zip(messages, standings, strict=True):
            decision = await self._decide(event, is_command, standing)
            lines: tuple[str, ...] = ()
            match decision.verdict:
                case Verdict.KEEP:
                    kept.append(event)
                case Verdict.ADMIT if core_gate.has_history(event) and not is_command:
                    # What was said before it stands before it asks.
                    await self._keep(kept)
                    kept = []
                    lines = await self._given(event)
            _tell(event, decision)
            screened.append(Screened(decision, lines))
        await self._keep(kept)
        return screened

    async def _standings(self, events: Sequence[InboundEvent]) -> list[Standing | None]:
        """What rows say of each event, None where no gate is."""
        gated = [event for event in events if core_gate.has_gate(event.channel)]
        if not gated:
            return [None] * len(events)
        async with self._pool.acquire() as conn:
            known = iter(await gates.standings(conn, [_arrival(event) for event in gated]))
        return [next(known) if core_gate.has_gate(event.channel) else None for event in events]

    async def _decide(
        self, event: InboundEvent, is_command: bool, standing: Standing | None
    ) -> GateDecision:
        if standing is None:
            return core_gate.decide(
                event, gates.DEFAULT_POLICY, is_approved=False, is_command=is_command
            )
        if standing.is_done:
            return GateDecision(GateReason.DUPLICATE)
        decision = core_gate.decide(
            event, standing.policy, is_approved=standing.is_approved, is_command=is_command
        )
        if decision.verdict is Verdict.PAIR:
            return GateDecision(await self._pair(event))
        return decision

    async def _pair(self, event: InboundEvent) -> GateReason:
        """Keep a stranger's request and tell its code, once; or why there is none."""
        channel, account_id = canonical_channel(event.channel), canonical_account(event.account_id)
        async with self._pool.acquire() as conn, conn.transaction():
            await gates.lock_account(conn, event.namespace, channel, account_id)
            request = pairing.request_pairing(
                await pairings.of_account(conn, event.namespace, channel, account_id),
                channel,
                account_id,
                event.sender,
                now=await pairings.now(conn),
                random=secrets.token_bytes(pairing.CODE_RANDOM_BYTES),
            )
            if not isinstance(request, PairingRequest):
                return request
            if not await effects.claim_event(conn, event.namespace, event.event_id):
                return GateReason.DUPLICATE
            if not await pairings.add(conn, event.namespace, request):
                raise Aborted("the pairing code is taken; another is drawn", reason="CODE_TAKEN")
            await outbox.insert(conn, SCHEMA, [_notice_event(event, request)])
        self._hints.send(outbox.hint_name(SCHEMA))
        return GateReason.PAIRING_NEEDED

    async def _keep(self, events: Sequence[InboundEvent]) -> None:
        if not events:
            return
        lines = [
            HistoryLine(
                event.namespace,
                core_gate.history_chat(event),
                event.event_id,
                core_gate.history_line(event),
                event.received_at,
            )
            for event in events
        ]
        async with self._pool.acquire() as conn, conn.transaction():
            await group_history.keep(conn, lines)

    async def _given(self, event: InboundEvent) -> tuple[str, ...]:
        chat = core_gate.history_chat(event)
        async with self._pool.acquire() as conn:
            return tuple(
                await group_history.give(
                    conn, event.namespace, chat, event.event_id, event.received_at
                )
            )


def _arrival(event: InboundEvent) -> Arrival:
    return Arrival(
        event.namespace,
        canonical_channel(event.channel),
        canonical_account(event.account_id),
        event.sender.id.strip(),
        event.event_id,
    )


def _notice_event(event: InboundEvent, request: PairingRequest) -> OutboxEvent:
    """The outbox row of what a stranger is told; no Agent speaks and there is no session."""
    message_id = str(uuid.uuid5(_NOTICES, f"{event.namespace}/{event.event_id}"))
    message = OutboundMessage(
        id=message_id,
        namespace=event.namespace,
        agent_id=AgentId(""),
        session_key=SessionKey(""),
        target=target_of(event),
        text=pairing.notice(request, event.namespace),
        kind=MessageKind.NOTICE,
        event_id=event.event_id,
        expires_at=request.expires_at,
    )
    return OutboxEvent(
        topic=topics.OUTBOUND,
        key=bus_key(event.namespace, event.channel, event.account_id, event.peer),
        event_id=message_id,
        value=outbound_to_pb(message).SerializeToString(),
    )


def _tell(event: InboundEvent, decision: GateDecision) -> None:
    metrics.gate_decisions.labels(decision.reason).inc()
    if decision.verdict is not Verdict.ADMIT:
        logger.info(
            "message_gated",
            namespace=event.namespace,
            channel=event.channel,
            account_id=event.account_id,
            event_id=event.event_id,
            verdict=decision.verdict,
            reason=decision.reason,
        )
