"""A routing question and its answer as JSON, the shape of `fased route explain`.

Decides names and spelling only; `routing.py` and `route_explain.py` decide the answer.
"""

from fased.core import fields
from fased.core.bindings import parse_peer_kind
from fased.core.errors import InvalidArgument
from fased.core.findings import Finding
from fased.core.messages import Attachment, Peer, PeerKind, Thread, ThreadKind
from fased.core.names import AgentId, SessionKey
from fased.core.route_explain import Candidate, Explanation
from fased.core.routing import RouteInput

_KEYS = (
    "channel",
    "accountId",
    "peer",
    "parentPeer",
    "guildId",
    "memberRoleIds",
    "teamId",
    "thread",
    "attached",
)


def parse_route_input(value: object) -> RouteInput:
    """The question in `{channel, accountId, peer, parentPeer, guildId, memberRoleIds, teamId}`,
    with `thread {kind, id}` and `attached {agentId, sessionKey}` where there are any.

    Raises InvalidArgument naming the field, for an unknown one too: a misspelt selector would
    otherwise answer another question.
    """
    entry = fields.object_at(value, "input")
    for finding in fields.unknown_keys(entry, _KEYS, "input"):
        raise InvalidArgument(
            finding.message, reason=finding.reason, metadata={"field": finding.setup_target}
        )
    return RouteInput(
        channel=fields.text_at(entry.get("channel"), "input.channel"),
        account_id=fields.text_at(entry.get("accountId"), "input.accountId"),
        peer=_peer(entry.get("peer"), "input.peer"),
        parent_peer=_peer(entry.get("parentPeer"), "input.parentPeer"),
        guild_id=fields.text_at(entry.get("guildId"), "input.guildId"),
        role_ids=fields.texts_at(entry.get("memberRoleIds"), "input.memberRoleIds"),
        team_id=fields.text_at(entry.get("teamId"), "input.teamId"),
        thread=_thread(entry.get("thread")),
        attached=_attached(entry.get("attached")),
    )


def explanation_json(explanation: Explanation) -> dict[str, object]:
    """The answer with the losing candidates, ready for `json.dumps`."""
    decision = explanation.decision
    return {
        "agentId": decision.agent_id,
        "channel": decision.channel,
        "accountId": decision.account_id,
        "sessionKey": decision.session_key,
        "mainSessionKey": decision.main_session_key,
        "matchedBy": decision.matched_by.value,
        "binding": decision.binding.id if decision.binding else None,
        "reason": decision.reason,
        "message": decision.message,
        "findings": [finding_json(finding) for finding in decision.findings],
        "candidates": [_candidate_json(candidate) for candidate in explanation.candidates],
        "lint": [finding_json(finding) for finding in explanation.lint],
    }


def finding_json(finding: Finding) -> dict[str, str]:
    """A finding, ready for `json.dumps`."""
    return {
        "reason": finding.reason,
        "message": finding.message,
        "setupTarget": finding.setup_target,
    }


def _candidate_json(candidate: Candidate) -> dict[str, object]:
    return {
        "binding": candidate.binding.id,
        "agentId": candidate.binding.agent_id,
        "tier": candidate.tier.value if candidate.tier else None,
        "failed": candidate.failed.value,
        "message": candidate.message,
    }


def _peer(value: object, path: str) -> Peer | None:
    if value is None:
        return None
    entry = fields.object_at(value, path)
    kind = parse_peer_kind(fields.text_at(entry.get("kind"), f"{path}.kind"))
    if kind is None:
        raise fields.wrong_shape(f"{path}.kind", ", ".join(PeerKind), entry.get("kind"))
    return Peer(kind, fields.text_at(entry.get("id"), f"{path}.id"))


def _thread(value: object) -> Thread | None:
    if value is None:
        return None
    entry = fields.object_at(value, "input.thread")
    kind = fields.text_at(entry.get("kind"), "input.thread.kind") or ThreadKind.THREAD.value
    if kind not in tuple(ThreadKind):
        raise fields.wrong_shape("input.thread.kind", ", ".join(ThreadKind), kind)
    return Thread(ThreadKind(kind), fields.text_at(entry.get("id"), "input.thread.id"))


def _attached(value: object) -> Attachment | None:
    if value is None:
        return None
    entry = fields.object_at(value, "input.attached")
    session_key = fields.text_at(entry.get("sessionKey"), "input.attached.sessionKey")
    return Attachment(
        AgentId(fields.text_at(entry.get("agentId"), "input.attached.agentId")),
        SessionKey(session_key) if session_key else None,
    )
