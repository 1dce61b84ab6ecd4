"""Whether a PostgreSQL server lives on a data directory. Starts and stops none (`postgres.py`)."""

import os
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What a server says of itself in its `postmaster.pid`; empty is what it has not said yet."""

    pid: int
    data: Path
    port: str
    sockets: Path
    status: str


def pid_file(data: Path) -> Path:
    """The file that a server keeps in its data directory while it lives, or has crashed."""
    return data / "postmaster.pid"


def read(data: Path) -> Postmaster | None:
    """The content of the pid file, or None where it is missing or names no process.

    Its lines (PostgreSQL, `pidfile.h`): pid, data directory, start time, port, socket folder,
    address, shared memory key, status; written one after the other while the server starts.
    """
    try:
        lines = [*pid_file(data).read_text().splitlines(), *[""] * 8]
        return Postmaster(int(lines[0]), Path(lines[1]), lines[3], Path(lines[4]), lines[7].strip())
    except (FileNotFoundError, ValueError):
        return None


def forget(data: Path, sockets: Path) -> None:
    """Remove what a server that is gone left; it would take another program of that pid for it."""
    pid_file(data).unlink(missing_ok=True)
    for path in sockets.glob(".s.PGSQL.*"):
        path.unlink()


def is_alive(pid: int) -> bool:
    """True when a process has this id, whoever owns it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def listener_pid(found: Postmaster) -> int | None:
    """The process that listens on the server's socket, as the kernel knows it."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(found.sockets / f".s.PGSQL.{found.port}"))
        except OSError:
            return None
        if sys.platform == "linux":
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        else:
            # SOL_LOCAL and LOCAL_PEERPID of macOS, which Python does not name.
            credentials = client.getsockopt(0, 0x002, 4)
    pid: int = struct.unpack_from("i", credentials)[0]
    return pid
