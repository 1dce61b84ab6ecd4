"""What the spec of a custom resource defines: the same values that commands and files make.

Decides which field means what. Shape and bounds were checked by the apiserver (the schemas in
`charts/fased/templates/crds`); what remains is checked by the service that keeps the definition.
Raises InvalidArgument with the field's path in the spec.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar

from fased.core import durations, fields, sessions
from fased.core.accounts import AccountSettings, ReceiveMode
from fased.core.agents import AgentDefinition
from fased.core.bindings import RESOURCE_POSITION, Binding, BindingPeer, make_binding
from fased.core.delivery import UnknownPolicy
from fased.core.gate import DmPolicy, GatePolicy, GroupPolicy
from fased.core.messages import Peer, PeerKind, Target, Thread, ThreadKind
from fased.core.names import (
    AccountId,
    AgentId,
    ChannelId,
    SessionKey,
    TaskId,
    canonical_account,
    canonical_channel,
)
from fased.core.resources import Resource
from fased.core.runs import DEFAULT_RUN_FOR, checked_mode
from fased.core.tasks import MissedPolicy, Overlap, Task, TriggerKind, TriggerSpec

_MAIN = "main"
_KEY_PREFIX = "agent:"
# What these channels call a thread.
_WITH_TOPICS = frozenset({ChannelId("telegram")})
_Spec = Mapping[str, object]
_W = TypeVar("_W", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Account:
    """What a Channel defines: an account and who may write to it; `gate` None is the default."""

    channel: ChannelId
    account_id: AccountId
    settings: AccountSettings
    gate: GatePolicy | None


@dataclass(frozen=True, slots=True)
class Provider:
    """What a ModelProvider defines. `credential` is a reference, `""` for none."""

    type: str
    base_url: str
    credential: str
    default_model: str


def agent_of(resource: Resource) -> AgentDefinition:
    """The Agent; its id is the resource's name."""
    spec = resource.spec
    roles = fields.object_at(spec.get("modelRoles"), "spec.modelRoles")
    return AgentDefinition(
        display_name=_text(spec, "displayName"),
        model=_text(spec, "model"),
        fallback_models=fields.texts_at(spec.get("fallbackModels"), "spec.fallbackModels"),
        model_roles={
            role: fields.text_at(model, f"spec.modelRoles.{role}") for role, model in roles.items()
        },
        system_prompt=_text(spec, "systemPrompt"),
        workspace=_text(spec, "workspace"),
        is_default=fields.flag_at(spec.get("default"), "spec.default"),
    )


def provider_of(resource: Resource) -> Provider:
    """The provider; its id is the resource's name."""
    spec = resource.spec
    return Provider(
        type=_text(spec, "type"),
        base_url=_text(spec, "baseUrl"),
        credential=_credential(spec),
        default_model=_text(spec, "defaultModel"),
    )


def account_of(resource: Resource) -> Account:
    """The account and its gate."""
    spec = resource.spec
    receive = fields.object_at(spec.get("receive"), "spec.receive")
    enabled = spec.get("enabled")
    return Account(
        channel=canonical_channel(_text(spec, "type")),
        account_id=canonical_account(_text(spec, "account")),
        settings=AccountSettings(
            credential=_credential(spec),
            mode=_word(ReceiveMode, receive, "mode", ReceiveMode.POLL, "spec.receive"),
            api_base=_text(spec, "apiBase"),
            webhook_url=_text(receive, "webhookUrl", "spec.receive"),
            unknown_policy=_word(UnknownPolicy, spec, "unknownPolicy", UnknownPolicy.HOLD),
            is_enabled=enabled is None or fields.flag_at(enabled, "spec.enabled"),
        ),
        gate=_gate(spec.get("gate")),
    )


def binding_of(resource: Resource) -> Binding:
    """The binding, called as the resource is, and as old."""
    spec = resource.spec
    path = "spec.match"
    match = fields.object_at(spec.get("match"), path)
    peer = match.get("peer")
    order = fields.whole_at(spec.get("order"), "spec.order", -1000, 1000) or 0
    return make_binding(
        id=resource.key.name,
        position=RESOURCE_POSITION + order,
        agent_id=_text(spec, "agent"),
        channel=_text(match, "channel", path),
        account_id=_text(match, "account", path),
        peer=None if peer is None else BindingPeer(*_peer_words(peer, f"{path}.peer")),
        guild_id=_text(match, "guildId", path),
        team_id=_text(match, "teamId", path),
        role_ids=fields.texts_at(match.get("roleIds"), f"{path}.roleIds"),
        created_at=resource.created_at,
    )


def task_of(resource: Resource) -> Task:
    """The task; its id is the resource's uid, so that making it twice makes one."""
    spec = resource.spec
    agent_id = AgentId(_text(spec, "agent"))
    missed = fields.object_at(spec.get("missed"), "spec.missed")
    return Task(
        namespace=resource.key.namespace,
        id=TaskId(resource.key.uid),
        name=resource.key.name,
        agent_id=agent_id,
        session_key=_session(agent_id, _text(spec, "session")),
        prompt=_text(spec, "prompt"),
        trigger=trigger_of(fields.object_at(spec.get("trigger"), "spec.trigger")),
        mode=checked_mode(_text(spec, "mode")),
        model=_text(spec, "model"),
        target=_target(spec.get("delivery")),
        overlap=_word(Overlap, spec, "overlap", Overlap.SKIP),
        missed=_word(MissedPolicy, missed, "policy", MissedPolicy.ONCE, "spec.missed"),
        missed_limit=fields.whole_at(missed.get("limit"), "spec.missed.limit", 1, 100) or 0,
        missed_within=_duration(missed, "within", "spec.missed"),
        run_for=_duration(spec, "runFor") or DEFAULT_RUN_FOR,
        managed_by=resource.owner,
    )


def trigger_of(spec: _Spec) -> TriggerSpec:
    """The trigger that a task's spec names; manual where it names none."""
    path = "spec.trigger"
    for kind in (TriggerKind.CRON, TriggerKind.EVERY, TriggerKind.AT):
        if spec.get(kind) is not None:
            return _timed(kind, fields.object_at(spec[kind], f"{path}.{kind}"), f"{path}.{kind}")
    return TriggerSpec(TriggerKind.MANUAL)


def _timed(kind: TriggerKind, spec: _Spec, path: str) -> TriggerSpec:
    word = {TriggerKind.CRON: "expression", TriggerKind.EVERY: "interval"}.get(kind, "time")
    anchor = _text(spec, "anchorTime", path)
    return TriggerSpec(
        kind,
        _text(spec, word, path),
        _text(spec, "timezone", path),
        durations.parse_instant(anchor, field=f"{path}.anchorTime") if anchor else None,
        _duration(spec, "stagger", path),
    )


def _session(agent_id: AgentId, text: str) -> SessionKey:
    if text in ("", _MAIN):
        return sessions.main_key(agent_id)
    if text.startswith(_KEY_PREFIX):
        return SessionKey(text)
    return sessions.named_key(sessions.main_key(agent_id), sessions.chat_slug(text, ()))


def _target(value: object) -> Target | None:
    if value is None:
        return None
    path = "spec.delivery"
    spec = fields.object_at(value, path)
    thread_id = _text(spec, "threadId", path)
    peer = fields.object_at(spec.get("peer"), f"{path}.peer")
    kind = _word(PeerKind, peer, "kind", PeerKind.DIRECT, f"{path}.peer")
    channel = canonical_channel(_text(spec, "channel", path))
    return Target(
        channel=channel,
        account_id=canonical_account(_text(spec, "account", path)),
        peer=Peer(kind, _text(peer, "id", f"{path}.peer")),
        thread=Thread(_thread_kind(channel), thread_id) if thread_id else None,
    )


def _thread_kind(channel: ChannelId) -> ThreadKind:
    return ThreadKind.TOPIC if channel in _WITH_TOPICS else ThreadKind.THREAD


def _peer_words(value: object, path: str) -> tuple[str, str]:
    peer = fields.object_at(value, path)
    return _text(peer, "kind", path), _text(peer, "id", path)


def _gate(value: object) -> GatePolicy | None:
    if value is None:
        return None
    path = "spec.gate"
    gate = fields.object_at(value, path)
    mention = gate.get("requireMention")
    return GatePolicy(
        dm_policy=_word(DmPolicy, gate, "dmPolicy", DmPolicy.PAIRING, path),
        allow_from=fields.texts_at(gate.get("allowFrom"), f"{path}.allowFrom"),
        group_policy=_word(GroupPolicy, gate, "groupPolicy", GroupPolicy.ALLOWLIST, path),
        groups=fields.texts_at(gate.get("groups"), f"{path}.groups"),
        group_allow_from=fields.texts_at(gate.get("groupAllowFrom"), f"{path}.groupAllowFrom"),
        require_mention=mention is None or fields.flag_at(mention, f"{path}.requireMention"),
        allow_bots=fields.flag_at(gate.get("allowBots"), f"{path}.allowBots"),
    )


def _credential(spec: _Spec) -> str:
    path = "spec.credential.secretKeyRef"
    credential = fields.object_at(spec.get("credential"), "spec.credential")
    reference = fields.object_at(credential.get("secretKeyRef"), path)
    if not reference:
        return ""
    return f"secret:{_text(reference, 'name', path)}/{_text(reference, 'key', path)}"


def _duration(spec: _Spec, name: str, path: str = "spec") -> timedelta:
    text = _text(spec, name, path)
    return durations.parse_duration(text, field=f"{path}.{name}") if text else timedelta(0)


def _word(kind: type[_W], spec: _Spec, name: str, default: _W, path: str = "spec") -> _W:
    text = _text(spec, name, path)
    if text and text not in tuple(kind):
        raise fields.wrong_shape(f"{path}.{name}", " or ".join(kind), text)
    return kind(text or default)


def _text(spec: _Spec, name: str, path: str = "spec") -> str:
    return fields.text_at(spec.get(name), f"{path}.{name}")
