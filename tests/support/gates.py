"""What tests of the gate say to a router: gates set, strangers approved, groups opened."""

import re
from dataclasses import replace
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from fased.api.router.v1 import pairing_pb2
from fased.api.router.v1 import router_service_pb2 as pb
from fased.api.types.v1 import message_pb2
from fased.core.messages import InboundEvent, PeerKind, Sender
from fased.core.pairing import ALPHABET
from tests.support.router import Router, Writer, writer

GROUP = "-100200"
CODE = re.compile(rf"\b[{ALPHABET}]{{8}}\b")
# What may hold a trace of somebody who was not let in.
WORK = ("router.session", "scheduler.run", "scheduler.run_history", "executor.transcript")


async def set_gate(
    router: Router,
    namespace: str = "default",
    account: str = "telegram:default",
    fields: tuple[str, ...] = (),
    **policy: Any,
) -> pairing_pb2.Gate:
    """Change an account's gate as a person would: the fields given, or those of `fields`."""
    request = pb.UpdateGateRequest(
        gate=pairing_pb2.Gate(name=f"namespaces/{namespace}/gates/{account}", **policy),
        update_mask=FieldMask(paths=fields or list(policy)),
    )
    return (await router.gates.UpdateGate(request)).gate  # type: ignore[no-any-return]


async def open_group(router: Router, **policy: Any) -> None:
    """Listen to GROUP and to everybody in it."""
    await set_gate(router, groups=[GROUP], group_allow_from=["*"], **policy)


async def pending(router: Router, namespace: str = "default") -> list[pairing_pb2.PairingRequest]:
    """Who waits."""
    request = pb.ListPairingsRequest(parent=f"namespaces/{namespace}")
    return [*(await router.pairing.ListPairings(request)).pairings]


async def approve(router: Router, code: str, namespace: str = "default", **fields: Any) -> Any:
    """Let in who has the code."""
    name = f"namespaces/{namespace}/pairings/{code}"
    request = pb.ApprovePairingRequest(name=name, **fields)
    return (await router.pairing.ApprovePairing(request)).sender


async def work(router: Router) -> dict[str, int]:
    """How many rows there are of each kind that a message makes."""
    return {
        table: (await router.rows(f"SELECT count(*) AS n FROM {table}"))[0]["n"] for table in WORK
    }


async def texts(router: Router, namespace: str = "default") -> list[str]:
    """The messages that became runs, in order."""
    return [run.body.inputs[0].text for run in await router.runs(namespace)]


def stranger(router: Router, sender_id: str, **fields: Any) -> Writer:
    """Somebody in a direct chat of their own."""
    blank = writer(router, sender_id, **fields)
    return replace(blank, blank=replace(blank.blank, sender=Sender(sender_id, f"Name {sender_id}")))


def member(router: Router, sender_id: str = "ada") -> Writer:
    """Somebody in GROUP."""
    blank = writer(router, GROUP, kind=PeerKind.GROUP)
    return replace(blank, blank=replace(blank.blank, sender=Sender(sender_id, sender_id.title())))


def notices(router: Router, *events: InboundEvent) -> list[message_pb2.OutboundMessage]:
    """All that was said to these events."""
    return [message for event in events for message in router.said.get(event.event_id, [])]
