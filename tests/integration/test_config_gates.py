"""The gates of `fased.json` made to stand in the rows of real services."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cli import config_file, config_gates
from cli.config_file import ConfigFile
from fased.api.router.v1 import pairing_pb2, router_service_pb2_grpc
from fased.api.router.v1 import router_service_pb2 as pb
from fased.core import errors
from services.policy import service as policy
from services.router import service as router
from tests.support.services import Running, running

PARENT = "namespaces/default"


@pytest.fixture
async def up(database_url: str) -> AsyncIterator[Running]:
    services = [policy.open_service, router.open_service]
    async with running(database_url, lambda listen, token: services) as started:
        yield started


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fased.json"


def written(path: Path, text: str) -> ConfigFile:
    """A file with this text, as it is read."""
    path.write_text(text)
    return config_file.read(path)


async def apply(up: Running, path: Path, text: str) -> dict[str, pairing_pb2.Gate]:
    """Write the file and make its gates stand; gives those that do, by account."""
    config = written(path, text)
    await config_gates.apply(up.channel, config.owner, config.configuration)
    stub: Any = router_service_pb2_grpc.GateServiceStub(up.channel)
    listed = await stub.ListGates(pb.ListGatesRequest(parent=PARENT))
    return {gate.name.rpartition("/")[2]: gate for gate in listed.gates}


async def test_a_files_gates_stand_and_go_with_it(up: Running, path: Path) -> None:
    gates = await apply(
        up,
        path,
        """{channels: {telegram: {accounts: {
             Work: {dmPolicy: "open", allowFrom: ["*"], groups: [-100], requireMention: false},
             other: {dmPolicy: "disabled"}, plain: {},
        }}}}""",
    )
    assert set(gates) == {"telegram:work", "telegram:other"}
    work = gates["telegram:work"]
    assert (work.dm_policy, list(work.allow_from), list(work.groups)) == ("open", ["*"], ["-100"])
    assert (work.require_mention, work.managed_by) == (False, "file:fased.json")
    changed = await apply(
        up, path, '{channels: {telegram: {accounts: {work: {allowFrom: ["7"]}}}}}'
    )
    assert set(changed) == {"telegram:work"}
    assert changed["telegram:work"].dm_policy == "pairing"
    assert await apply(up, path, "{}") == {}


def test_a_gate_that_cannot_be_read_is_refused_with_its_file_and_field(path: Path) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        written(path, '{channels: {telegram: {accounts: {a: {dmPolicy: "all"}}}}}')
    assert caught.value.metadata == {"field": "channels.telegram.accounts.a.dmPolicy"}
    assert str(path) in caught.value.message
