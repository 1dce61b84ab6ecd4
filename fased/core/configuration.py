"""The configuration a person writes (`fased.json`), as values.

Decides the shape of the decoded file and what in it is odd; it reads no file, and what the values
mean is decided elsewhere (`routing.py`, `sessions.py`). A shape that is plainly wrong raises
InvalidArgument with the field's path; what can be lived with becomes a warning.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fased.core import fields
from fased.core.bindings import Binding, BindingPeer, make_binding
from fased.core.errors import InvalidArgument
from fased.core.findings import Finding
from fased.core.names import (
    DEFAULT_AGENT,
    AccountId,
    AgentId,
    ChannelId,
    canonical_account,
    canonical_agent,
    canonical_channel,
)
from fased.core.route_table import RoutingOptions, RoutingTable, compile_table
from fased.core.session_configuration import parse_session
from fased.core.sessions import SessionPolicy

_TOP_KEYS = ("agents", "bindings", "session", "broadcast", "channels", "routing")
_AGENT_KEYS = ("id", "name", "default", "model", "models", "workspace", "systemPrompt")
_POLICY_KEYS = ("agentDir", "skills", "tools", "sandbox")
_MATCH_KEYS = ("channel", "accountId", "peer", "guildId", "teamId", "roles")
_BINDING_KEYS = ("agentId", "match")
_STRATEGIES = ("parallel", "sequential")


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model reference `provider/model` (`""` for none chosen), and what is tried after it."""

    primary: str = ""
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentEntry:
    """An Agent as configured. `models` are references by task role (`cheapCheck`, `strong` …).

    `policy` keeps the keys that other parts read (`agentDir`, `skills`, `tools`, `sandbox`) as
    they were written.
    """

    id: AgentId
    name: str = ""
    is_default: bool = False
    model: ModelChoice = ModelChoice()
    models: Mapping[str, str] = field(default_factory=dict, hash=False)
    workspace: str = ""
    system_prompt: str = ""
    policy: Mapping[str, object] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Chats whose messages several Agents answer: peer id as written → Agents, in order."""

    is_parallel: bool = True
    groups: Mapping[str, tuple[AgentId, ...]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A whole configuration. `agents_model` is what an Agent without a model uses.

    `channels` are the accounts' settings as written, for the channels to read. `warnings` say what
    had no effect or another than written.
    """

    agents: tuple[AgentEntry, ...] = ()
    agents_model: ModelChoice = ModelChoice()
    bindings: tuple[Binding, ...] = ()
    session: SessionPolicy = field(default_factory=SessionPolicy)
    routing: RoutingOptions = field(default_factory=RoutingOptions)
    broadcast: Broadcast = field(default_factory=Broadcast)
    channels: Mapping[str, object] = field(default_factory=dict, hash=False)
    warnings: tuple[Finding, ...] = ()

    @property
    def default_agent(self) -> AgentId:
        """The Agent marked default, else the first, else `main`."""
        marked = [agent for agent in self.agents if agent.is_default]
        return (marked or [*self.agents, AgentEntry(DEFAULT_AGENT)])[0].id

    @property
    def accounts(self) -> dict[ChannelId, frozenset[AccountId]]:
        """The accounts that `channels.<channel>.accounts` names, canonical."""
        named: dict[ChannelId, frozenset[AccountId]] = {}
        for channel, settings in self.channels.items():
            accounts = settings.get("accounts") if isinstance(settings, Mapping) else None
            if isinstance(accounts, Mapping):
                ids = frozenset(canonical_account(str(account)) for account in accounts)
                named[canonical_channel(channel)] = ids
        return named


def parse_configuration(value: object) -> Configuration:
    """The configuration in a decoded file, with what is odd about it as warnings.

    Raises InvalidArgument (`INVALID_CONFIGURATION`, `DUPLICATE_AGENT`, `INVALID_ZONE`) naming the
    field for what cannot be read.
    """
    top = fields.object_at(value, "the configuration")
    warnings = fields.unknown_keys(top, _TOP_KEYS, "")
    agents = fields.object_at(top.get("agents"), "agents")
    warnings += fields.unknown_keys(agents, ("list", "defaults"), "agents")
    defaults = fields.object_at(agents.get("defaults"), "agents.defaults")
    warnings += fields.unknown_keys(defaults, ("model",), "agents.defaults")
    routing = fields.object_at(top.get("routing"), "routing")
    warnings += fields.unknown_keys(routing, ("wildcardPeer", "groupChannelAlike"), "routing")
    return Configuration(
        agents=_agents(agents.get("list"), warnings),
        agents_model=_model(defaults.get("model"), "agents.defaults.model"),
        bindings=_bindings(top.get("bindings"), warnings),
        session=parse_session(top.get("session"), warnings),
        routing=RoutingOptions(
            wildcard_peer=fields.flag_at(routing.get("wildcardPeer"), "routing.wildcardPeer"),
            group_channel_alike=fields.flag_at(
                routing.get("groupChannelAlike"), "routing.groupChannelAlike"
            ),
        ),
        broadcast=_broadcast(top.get("broadcast")),
        channels=fields.object_at(top.get("channels"), "channels"),
        warnings=tuple(warnings),
    )


def routing_table(configuration: Configuration) -> RoutingTable:
    """The compiled table of a configuration."""
    return compile_table(
        configuration.bindings,
        agents=[agent.id for agent in configuration.agents],
        default_agent=configuration.default_agent,
        session=configuration.session,
        options=configuration.routing,
    )


def _agents(value: object, warnings: list[Finding]) -> tuple[AgentEntry, ...]:
    agents: dict[AgentId, AgentEntry] = {}
    for at, item in enumerate(fields.list_at(value, "agents.list")):
        if item is None:
            continue
        path = f"agents.list[{at}]"
        agent = _agent(fields.object_at(item, path), path, warnings)
        if agent.id in agents:
            raise InvalidArgument(
                f"{path}.id names Agent {agent.id} a second time",
                reason="DUPLICATE_AGENT",
                metadata={"field": f"{path}.id"},
            )
        agents[agent.id] = agent
    return tuple(agents.values())


def _agent(entry: Mapping[str, object], path: str, warnings: list[Finding]) -> AgentEntry:
    warnings += fields.unknown_keys(entry, (*_AGENT_KEYS, *_POLICY_KEYS), path)
    written_id = fields.text_at(entry.get("id"), f"{path}.id")
    agent_id = canonical_agent(written_id)
    if not written_id.strip():
        warnings.append(
            Finding("AGENT_ID_MISSING", f"{path} has no id and is taken as {agent_id}.", path)
        )
    roles = fields.object_at(entry.get("models"), f"{path}.models")
    return AgentEntry(
        id=agent_id,
        name=fields.text_at(entry.get("name"), f"{path}.name"),
        is_default=fields.flag_at(entry.get("default"), f"{path}.default"),
        model=_model(entry.get("model"), f"{path}.model"),
        models={
            role: fields.text_at(model, f"{path}.models.{role}") for role, model in roles.items()
        },
        workspace=fields.text_at(entry.get("workspace"), f"{path}.workspace"),
        system_prompt=fields.text_at(entry.get("systemPrompt"), f"{path}.systemPrompt"),
        policy={key: entry[key] for key in _POLICY_KEYS if key in entry},
    )


def _model(value: object, path: str) -> ModelChoice:
    """A model as `"provider/model"` or `{primary, fallbacks}`."""
    if not isinstance(value, Mapping):
        return ModelChoice(fields.text_at(value, path).strip())
    return ModelChoice(
        fields.text_at(value.get("primary"), f"{path}.primary").strip(),
        fields.texts_at(value.get("fallbacks"), f"{path}.fallbacks"),
    )


def _bindings(value: object, warnings: list[Finding]) -> tuple[Binding, ...]:
    return tuple(
        _binding(fields.object_at(item, f"bindings[{at}]"), at, warnings)
        for at, item in enumerate(fields.list_at(value, "bindings"))
        if item is not None
    )


def _binding(entry: Mapping[str, object], position: int, warnings: list[Finding]) -> Binding:
    path = f"bindings[{position}]"
    match = fields.object_at(entry.get("match"), f"{path}.match")
    warnings += fields.unknown_keys(entry, _BINDING_KEYS, path)
    warnings += fields.unknown_keys(match, _MATCH_KEYS, f"{path}.match")
    return make_binding(
        id=path,
        position=position,
        agent_id=fields.text_at(entry.get("agentId"), f"{path}.agentId"),
        channel=fields.text_at(match.get("channel"), f"{path}.match.channel"),
        account_id=fields.text_at(match.get("accountId"), f"{path}.match.accountId"),
        peer=_peer(match.get("peer"), f"{path}.match.peer"),
        guild_id=fields.text_at(match.get("guildId"), f"{path}.match.guildId"),
        team_id=fields.text_at(match.get("teamId"), f"{path}.match.teamId"),
        role_ids=fields.texts_at(match.get("roles"), f"{path}.match.roles"),
    )


def _peer(value: object, path: str) -> BindingPeer | None:
    if value is None:
        return None
    peer = fields.object_at(value, path)
    return BindingPeer(
        fields.text_at(peer.get("kind"), f"{path}.kind"),
        fields.text_at(peer.get("id"), f"{path}.id"),
    )


def _broadcast(value: object) -> Broadcast:
    entry = dict(fields.object_at(value, "broadcast"))
    strategy = fields.text_at(entry.pop("strategy", None), "broadcast.strategy") or _STRATEGIES[0]
    if strategy not in _STRATEGIES:
        raise fields.wrong_shape("broadcast.strategy", " or ".join(_STRATEGIES), strategy)
    return Broadcast(
        is_parallel=strategy == _STRATEGIES[0],
        groups={
            peer_id: tuple(
                canonical_agent(agent) for agent in fields.texts_at(named, f"broadcast.{peer_id}")
            )
            for peer_id, named in entry.items()
        },
    )
