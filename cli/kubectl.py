"""`kubectl fased …`: the gateway of the cluster that kubectl's current context names.

Decides how it is found and reached: by its Service's labels, through a port-forward that lives as
long as the command, with the admin's token unless FASED_TOKEN is set. What kubectl itself may do
is between it and the cluster.
"""

import atexit
import base64
import functools
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.failures import GatewayUnreachable
from fased.core.errors import Unauthenticated

PROGRAM = "kubectl-fased"
# Tells `connection.find` that this process is the plugin.
MARK = "FASED_KUBECTL_PLUGIN"
SERVICE = "FASED_GATEWAY_SERVICE"
SELECTOR = "app.kubernetes.io/name=fased,app.kubernetes.io/component=gateway"
TOKEN_ANNOTATION = "fased.dev/token-secret"
POD_TIMEOUT_S = 5
START_TIMEOUT_S = 20.0
END_TIMEOUT_S = 5.0

_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


@dataclass(frozen=True, slots=True)
class Door:
    """The gateway's Service. `token_secret` is `""` where the Service names none."""

    namespace: str
    name: str
    token_secret: str = ""


def is_plugin(program: str) -> bool:
    """Whether a command was called as kubectl's plugin, by the name that it was started under."""
    return Path(program).name.removesuffix(".exe") == PROGRAM


def prepare(environment: MutableMapping[str, str]) -> None:
    """Make the context's namespace the one that commands act in, unless one is set."""
    environment[MARK] = "1"
    if not environment.get("FASED_NAMESPACE"):
        shown = _kubectl("config", "view", "--minify", "--output=jsonpath={..namespace}")
        if shown.strip():
            environment["FASED_NAMESPACE"] = shown.strip()


@functools.cache
def reach() -> tuple[str, str]:
    """The gateway's address on this machine, and a token for it; asked for once a command.

    Raises GatewayUnreachable and Unauthenticated, each with the next step.
    """
    door = _find_door()
    token = os.environ.get("FASED_TOKEN") or _token(door)
    return f"127.0.0.1:{_forward(door)}", token


def _find_door() -> Door:
    given = os.environ.get(SERVICE, "")
    if given:
        namespace, slash, name = given.partition("/")
        if not (namespace and slash and name):
            raise _unreachable(f"{SERVICE} is {given!r}", "write it as NAMESPACE/NAME")
        one = _kubectl("get", "service", name, f"--namespace={namespace}", "--output=json")
        return _door(json.loads(one))
    everywhere = ("--all-namespaces", f"--selector={SELECTOR}", "--output=json")
    found = [_door(each) for each in json.loads(_kubectl("get", "services", *everywhere))["items"]]
    if len(found) == 1:
        return found[0]
    if not found:
        raise _unreachable(
            "this cluster has no gateway of Fased",
            f"install the chart, choose another context, or set {SERVICE}=NAMESPACE/NAME",
        )
    names = ", ".join(f"{each.namespace}/{each.name}" for each in found)
    raise _unreachable(f"this cluster has several gateways: {names}", f"set {SERVICE} to one")


def _door(service: Mapping[str, Any]) -> Door:
    metadata = service["metadata"]
    secret = metadata.get("annotations", {}).get(TOKEN_ANNOTATION, "")
    return Door(metadata["namespace"], metadata["name"], secret)


def _token(door: Door) -> str:
    if not door.token_secret:
        raise _no_token(f"the Service {door.namespace}/{door.name} names no Secret with a token")
    words = ("get", "secret", door.token_secret, f"--namespace={door.namespace}")
    try:
        encoded = _kubectl(*words, "--output=jsonpath={.data.admin-token}")
    except GatewayUnreachable as exc:
        raise _no_token(exc.message) from exc
    if not encoded:
        raise _no_token(f"the Secret {door.namespace}/{door.token_secret} has no admin-token")
    return base64.b64decode(encoded).decode()


def _forward(door: Door) -> int:
    """The port on this machine that leads to the gateway until this process ends."""
    where = (f"--namespace={door.namespace}", f"service/{door.name}", ":grpc")
    words = ("port-forward", *where, f"--pod-running-timeout={POD_TIMEOUT_S}s")
    # A session of its own: Ctrl-C is the command's, which may still have something to say.
    process = subprocess.Popen(
        ["kubectl", *words, "--address=127.0.0.1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    atexit.register(_end, process)
    # Without it, SIGTERM would leave the port-forward behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    assert process.stdout is not None
    said = _first_line(process.stdout.fileno())
    if matched := _FORWARDING.search(said):
        return int(matched[1])
    _end(process)
    assert process.stderr is not None
    why = _last_line(process.stderr.read().decode(errors="replace")) or "it does not answer"
    raise _unreachable(
        f"no way to {door.namespace}/{door.name}: {why}",
        f"see whether it runs: kubectl --namespace {door.namespace} get pods",
    )


def _first_line(descriptor: int) -> str:
    """What a child says first, `""` where it ends or is silent for too long."""
    said = b""
    deadline = time.monotonic() + START_TIMEOUT_S
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while b"\n" not in said and selector.select(max(0.0, deadline - time.monotonic())):
            part = os.read(descriptor, 4096)
            if not part:
                break
            said += part
    return said.decode(errors="replace")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _kubectl(*words: str) -> str:
    try:
        done = subprocess.run(["kubectl", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise _unreachable("kubectl is not on the PATH", "install kubectl") from None
    if done.returncode != 0:
        raise _unreachable(
            f"kubectl {' '.join(words[:2])}: {_last_line(done.stderr)}",
            f"check the context, or set {SERVICE}=NAMESPACE/NAME and FASED_TOKEN",
        )
    return done.stdout


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else ""


def _unreachable(why: str, step: str) -> GatewayUnreachable:
    return GatewayUnreachable(why, reason="GATEWAY_UNREACHABLE", metadata={"next": step})


def _no_token(why: str) -> Unauthenticated:
    return Unauthenticated(
        why,
        reason="TOKEN_MISSING",
        metadata={
            "field": "FASED_TOKEN",
            "next": "set FASED_TOKEN; an admin makes a token by: kubectl fased token create",
        },
    )
