"""`fased.json`: read from the state folder and made to stand. Decides which service gets which
part; what the file may say is `core/configuration.py`.

The file owns what it names, under `file:NAME`: a part that it no longer names is no longer there.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import json5

from cli import config_accounts, config_gates
from fased.api.policy.v1 import policy_service_pb2 as policy_pb
from fased.api.policy.v1 import policy_service_pb2_grpc
from fased.api.router.v1 import router_service_pb2 as router_pb
from fased.api.router.v1 import router_service_pb2_grpc
from fased.core.account_configuration import parse_accounts
from fased.core.agents import AgentDefinition, checked_definition
from fased.core.configuration import AgentEntry, Configuration, parse_configuration
from fased.core.errors import InvalidArgument
from fased.core.gate_configuration import parse_gates
from fased.core.names import DEFAULT_NAMESPACE
from fased.wire.agents import definition_to_pb
from fased.wire.routes import binding_to_pb, options_to_pb, session_policy_to_pb

NAME = "fased.json"
PARENT = f"namespaces/{DEFAULT_NAMESPACE}"


# What the file may hold for parts that this version does not have yet.
_NOT_SERVED = ("broadcast",)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration file as it was read; one that is not there says nothing.

    `warnings` are what it says in vain or otherwise than meant, a sentence each.
    """

    path: Path
    exists: bool
    configuration: Configuration
    named: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()

    @property
    def owner(self) -> str:
        """What marks its rows: the name alone, since a state folder may be moved."""
        return f"file:{self.path.name}"


def read(path: Path) -> ConfigFile:
    """The file at `path`; raises InvalidArgument with the line or the field that is wrong."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ConfigFile(path, False, Configuration())
    except (OSError, UnicodeDecodeError) as exc:
        raise _unreadable(path, str(exc)) from exc
    document = decode(text, path)
    if not isinstance(document, dict):
        raise _unreadable(path, "it is no object { … }")
    try:
        configuration = parse_configuration(document)
        for entry in configuration.agents:
            _check_agent(entry)
        parse_gates(configuration.channels)
        parse_accounts(configuration.channels)
    except InvalidArgument as exc:
        raise InvalidArgument(
            f"{path}: {exc.message}", reason=exc.reason, metadata=exc.metadata
        ) from exc
    named = frozenset(key for key, value in document.items() if value is not None)
    return ConfigFile(path, True, configuration, named, _warnings(path, configuration, named))


def decode(text: str, path: Path) -> Any:
    """The values of a JSON5 text; raises InvalidArgument with the place that is wrong."""
    try:
        return json.loads(text)
    except ValueError:
        pass  # comments, trailing commas, bare keys: JSON5, whose pure-Python parser is slow
    try:
        return json5.loads(text)
    except ValueError as exc:
        raise _unreadable(path, str(exc).replace("<string>:", "line ")) from exc


async def apply(channel: grpc.aio.Channel, config: ConfigFile) -> tuple[str, ...]:
    """Make the file's Agents, bindings, session policy, options, gates and accounts stand, and
    those it dropped go.

    Gives what is odd about all bindings as they stand now, a sentence each. Raises
    FailedPrecondition when another owner has one of the file's.
    """
    configuration, named = config.configuration, config.named
    agents = policy_service_pb2_grpc.AgentServiceStub(channel)
    await agents.ApplyAgents(
        policy_pb.ApplyAgentsRequest(
            parent=PARENT,
            managed_by=config.owner,
            agents=[
                definition_to_pb(DEFAULT_NAMESPACE, entry.id, _definition(configuration, entry))
                for entry in configuration.agents
            ],
            default_model=configuration.agents_model.primary,
            set_default_model=True,
        )
    )
    routes = router_service_pb2_grpc.RouteServiceStub(channel)
    applied = await routes.ApplyRouting(
        router_pb.ApplyRoutingRequest(
            parent=PARENT,
            managed_by=config.owner,
            bindings=[
                binding_to_pb(DEFAULT_NAMESPACE, binding) for binding in configuration.bindings
            ],
            session=session_policy_to_pb(configuration.session) if "session" in named else None,
            options=options_to_pb(configuration.routing) if "routing" in named else None,
        )
    )
    await config_gates.apply(channel, config.owner, configuration)
    # Last: what comes in finds its gate and its bindings.
    await config_accounts.apply(channel, config.owner, configuration)
    return tuple(finding.message for finding in applied.lint)


def _check_agent(entry: AgentEntry) -> None:
    try:
        checked_definition(_definition(Configuration(), entry))
    except InvalidArgument as exc:
        raise InvalidArgument(
            f"agents.list, Agent {entry.id}: {exc.message}",
            reason=exc.reason,
            metadata=exc.metadata,
        ) from exc


def _warnings(path: Path, configuration: Configuration, named: frozenset[str]) -> tuple[str, ...]:
    odd = [finding.message for finding in configuration.warnings]
    odd += [finding.message for finding in parse_accounts(configuration.channels)[1]]
    odd += [f"{key} has no effect in this version." for key in _NOT_SERVED if key in named]
    return tuple(f"{path.name}: {each}" for each in odd)


def _definition(configuration: Configuration, entry: AgentEntry) -> AgentDefinition:
    return AgentDefinition(
        display_name=entry.name,
        model=entry.model.primary,
        fallback_models=entry.model.fallbacks,
        model_roles=dict(entry.models),
        system_prompt=entry.system_prompt,
        workspace=entry.workspace,
        # Marked or the file's first: Agents that were made before it do not count.
        is_default=entry.id == configuration.default_agent,
    )


def _unreadable(path: Path, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"cannot read {path}: {why}", reason="CONFIG_UNREADABLE", metadata={"field": str(path)}
    )
