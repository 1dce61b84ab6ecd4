"""Ports for servers that tests stop and start again on the same address. Decides which ones."""

import random
import socket

# Below the ports that the kernel gives to outgoing connections: one of those would take the place
# of a server that is being restarted.
_FIRST, _LAST = 20_000, 31_999


def free_port() -> int:
    """A port of loopback that nothing has now."""
    while True:
        port = random.randint(_FIRST, _LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
