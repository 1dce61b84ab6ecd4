"""Measures routing: resolves per second and the cost of one changed binding, at three sizes.

`python -m benchmarks.routing [--messages N] [--rounds N]` prints one JSON line per figure and
asserts nothing. Messages are distinct and made before the clock runs; canonical forms, the session
key and the decision are part of what is measured. One in two messages fits a binding, the others
fall through every tier. `cold` is the first pass over a table, `warm` the median of the later
passes, by the wall clock and by CPU time, which a busy machine distorts less. `update` changes a
binding where each channel holds a quarter of the table, `update_one_channel` where one channel
holds it all, the dearest shape.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import time
from dataclasses import replace
from importlib import metadata

from fased.core.bindings import Binding, BindingPeer, make_binding
from fased.core.messages import Peer, PeerKind
from fased.core.route_table import RoutingTable, compile_table, with_binding
from fased.core.routing import RouteInput, resolve_route
from fased.core.sessions import DmScope, SessionPolicy

SIZES = (10, 2_000, 10_000)
CHANNELS = ("telegram", "discord", "slack", "whatsapp")
AGENTS = 50
ACCOUNTS = 8
UPDATES = 500


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for size in SIZES:
        bindings = [_binding(position, CHANNELS) for position in range(size)]
        one_channel = [_binding(position, CHANNELS[:1]) for position in range(size)]
        messages = [_message(bindings, seed) for seed in range(arguments.messages)]
        # What the benchmark itself holds is none of the collector's work while it measures.
        gc.freeze()
        started = time.perf_counter()
        table = _table(bindings)
        compile_ms = (time.perf_counter() - started) * 1000
        rounds = [_resolve_all(table, messages) for _ in range(arguments.rounds + 1)]
        matched = sum(resolve_route(table, message).binding is not None for message in messages)
        figure = {
            "figure": "routing",
            "bindings": size,
            "compile_ms": round(compile_ms, 3),
            "cold_resolves_per_s": round(len(messages) / rounds[0][0]),
            "warm_resolves_per_s": _rate(messages, [wall_s for wall_s, _ in rounds[1:]]),
            "warm_resolves_per_cpu_s": _rate(messages, [cpu_s for _, cpu_s in rounds[1:]]),
            "matched_share": round(matched / len(messages), 3),
            **_update_ms("update", bindings),
            **_update_ms("update_one_channel", one_channel),
        }
        print(json.dumps(figure | _settings(arguments)))


def _table(bindings: list[Binding]) -> RoutingTable:
    agents = [binding.agent_id for binding in bindings]
    return compile_table(
        bindings,
        agents=agents,
        default_agent=agents[0],
        session=SessionPolicy(DmScope.PER_CHANNEL_PEER),
    )


def _binding(position: int, channels: tuple[str, ...]) -> Binding:
    """Binding number `position`: chats, guilds with roles, teams and accounts in turn."""
    shape = position % 8
    accounts = ("", "*", f"account-{position % ACCOUNTS}")
    has_peer, has_guild, has_team = shape < 5, shape == 5, shape == 6
    kinds = tuple(PeerKind)
    return make_binding(
        id=f"bindings[{position}]",
        position=position,
        agent_id=f"agent-{position % AGENTS}",
        channel=channels[position % len(channels)],
        account_id=accounts[position % 3] if shape < 7 else f"account-{position}",
        peer=BindingPeer(kinds[position % 3], f"Peer-{position}") if has_peer else None,
        guild_id=f"guild-{position}" if has_guild else "",
        role_ids=(f"role-{position % 5}",) if has_guild else (),
        team_id=f"team-{position}" if has_team else "",
    )


def _message(bindings: list[Binding], seed: int) -> RouteInput:
    """A message of its own: one in two fits a binding, the others are strangers'."""
    bound = bindings[seed * 7919 % len(bindings)]
    is_stranger = seed % 2 == 1
    kind = PeerKind(bound.peer.kind) if bound.peer else PeerKind.CHANNEL
    peer_id = bound.peer.id if bound.peer and not is_stranger else f"Stranger-{seed}"
    account = bound.account_id if bound.account_id != "*" else f"account-{seed % ACCOUNTS}"
    return RouteInput(
        channel=bound.channel,
        account_id=account,
        peer=Peer(kind, peer_id),
        guild_id="elsewhere" if is_stranger else bound.guild_id,
        role_ids=("role-7", *bound.role_ids),
        team_id="elsewhere" if is_stranger else bound.team_id,
    )


def _resolve_all(table: RoutingTable, messages: list[RouteInput]) -> tuple[float, float]:
    """The wall seconds and the CPU seconds of one pass."""
    gc.collect()
    started, cpu_started = time.perf_counter(), time.process_time()
    for message in messages:
        resolve_route(table, message)
    return time.perf_counter() - started, time.process_time() - cpu_started


def _rate(messages: list[RouteInput], seconds: list[float]) -> int:
    return round(len(messages) / statistics.median(seconds))


def _update_ms(name: str, bindings: list[Binding]) -> dict[str, float]:
    """The cost of one changed binding, and of the first resolve after it."""
    table = _table(bindings)
    updates: list[float] = []
    firsts: list[float] = []
    gc.collect()
    for turn in range(UPDATES):
        known = bindings[turn * 7919 % len(bindings)]
        changed = replace(known, agent_id=bindings[turn % len(bindings)].agent_id)
        message = _message(bindings, turn)
        started = time.perf_counter()
        table = with_binding(table, changed)
        updated = time.perf_counter()
        resolve_route(table, message)
        firsts.append((time.perf_counter() - updated) * 1000)
        updates.append((updated - started) * 1000)
    return {
        f"{name}_ms_p50": round(statistics.median(updates), 4),
        f"{name}_ms_p99": round(statistics.quantiles(updates, n=100)[98], 4),
        f"{name}_first_resolve_ms_p99": round(statistics.quantiles(firsts, n=100)[98], 4),
    }


def _settings(arguments: argparse.Namespace) -> dict[str, object]:
    return {
        "messages": arguments.messages,
        "rounds": arguments.rounds,
        "python": platform.python_version(),
        "fased": metadata.version("fased") if _is_installed() else "source",
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
    }


def _is_installed() -> bool:
    return any(found.name == "fased" for found in metadata.distributions(name="fased"))


if __name__ == "__main__":
    main()
