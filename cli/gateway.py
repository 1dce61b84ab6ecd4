"""`fased gateway`: the gateway of this machine. Decides how it is asked to start again, and that
only a process of Fased is.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import typer

from cli import connection
from cli.connection import Connection, Gateway
from cli.failures import GatewayUnreachable
from cli.options import Format, NamespaceOption, Output
from cli.output import Table, show
from fased.api.scheduler.v1 import scheduler_service_pb2 as pb
from fased.api.scheduler.v1 import scheduler_service_pb2_grpc
from fased.core.errors import DeadlineExceeded
from fased.core.names import DEFAULT_NAMESPACE
from fased.wire.plain import plain

RESTART_TIMEOUT_S = 30.0
POLL_PERIOD_S = 0.1

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """The gateway."""


@app.command()
def status(namespace: NamespaceOption = DEFAULT_NAMESPACE, output: Output = Format.TABLE) -> None:
    """Say where the gateway listens. Exit code 3 when it does not answer.

    \b
    Example:
      fased gateway status
    """
    gateway = connection.find(os.environ)
    counted = connection.run(namespace, _queue, gateway)
    value = {
        "grpc": gateway.grpc,
        "http": gateway.http,
        "pid": gateway.pid,
        "queue": plain(counted),
    }
    facts = [
        ("console", gateway.http),
        ("gRPC", gateway.grpc),
        ("process", str(gateway.pid or "")),
        ("runs", f"{counted.queued} queued, {counted.running} running"),
        ("workers", str(counted.workers)),
    ]
    show(output, value, Table((), [fact for fact in facts if fact[1]]))


@app.command()
def restart(output: Output = Format.TABLE) -> None:
    """Restart a running `fased up` and wait for it.

    \b
    Example:
      fased gateway restart
    """
    folder = connection.state_dir(os.environ)
    before = connection.read_gateway_file(folder)
    _check_is_ours(before)
    os.kill(before.pid, signal.SIGHUP)
    after = _started_again(folder, before)
    show(
        output,
        {"grpc": after.grpc, "http": after.http, "pid": after.pid},
        f"The gateway was restarted: {after.http}",
    )


async def _queue(to: Connection) -> pb.GetQueueStatusResponse:
    runs = scheduler_service_pb2_grpc.RunServiceStub(to.channel)
    return await runs.GetQueueStatus(pb.GetQueueStatusRequest(parent=to.parent))


def _check_is_ours(gateway: Gateway) -> None:
    """Raise unless the process is `fased up`: after a crash its number may be another's."""
    words = _command_line(gateway.pid)
    names = {Path(word).name for word in words}
    if not names & {"fased", "cli.main"} or "up" not in words:
        raise connection.unreachable(f"process {gateway.pid} is no fased up any more")


def _command_line(pid: int) -> list[str]:
    """The words of a process's command; none when there is no such process."""
    if pid <= 0:
        return []
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        # No such process, or a system without /proc.
        shown = subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return shown.stdout.split()


def _started_again(folder: Path, before: Gateway) -> Gateway:
    deadline = time.monotonic() + RESTART_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            gateway = connection.read_gateway_file(folder)
            if gateway.started != before.started:
                connection.run(DEFAULT_NAMESPACE, _queue, gateway)
                return gateway
        except GatewayUnreachable:
            pass
        time.sleep(POLL_PERIOD_S)
    raise DeadlineExceeded(
        f"the gateway did not come back within {RESTART_TIMEOUT_S:.0f} s",
        reason="RESTART_TIMEOUT",
        metadata={"next": "see what fased up printed"},
    )
