"""The state folder: one process at a time uses it. Decides who holds it, not what lies in it."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NewType

from fased.core import errors

StateFolder = NewType("StateFolder", Path)
"""An absolute path without symbolic links, whose lock this process holds."""


@contextmanager
def locked(folder: Path) -> Iterator[StateFolder]:
    """Make the folder if needed (mode 0700) and hold it until the block ends.

    The kernel drops the lock with the process, so that a kill -9 leaves nothing to clean.
    Raises `FailedPrecondition` ALREADY_RUNNING, or what `file_error` says.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = folder.resolve(strict=True)
    except OSError as exc:
        raise file_error(exc, folder) from exc
    with lock_file(folder / "lock", folder):
        yield StateFolder(folder)


@contextmanager
def lock_file(path: Path, folder: Path) -> Iterator[None]:
    """Hold the lock in `path`, which guards `folder`; the file then names our process id."""
    try:
        # Not inheritable (the default): a server that outlives us must not keep our lock.
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        raise file_error(exc, folder) from exc
    try:
        _take(fd, folder)
        yield
        os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def file_error(exc: OSError, folder: Path) -> errors.FasedError:
    """The one line for an operation on `folder` that the system refused."""
    why = exc.strerror or str(exc)
    metadata = {"field": "state_dir", "path": str(folder)}
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return errors.PermissionDenied(
            f"no permission for {folder}: {why}", reason="FOLDER_NOT_WRITABLE", metadata=metadata
        )
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return errors.ResourceExhausted(
            f"no space left on the disk of {folder}", reason="DISK_FULL", metadata=metadata
        )
    return errors.FailedPrecondition(
        f"cannot use {folder}: {why}", reason="FOLDER_UNUSABLE", metadata=metadata
    )


def _take(fd: int, folder: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as exc:
        pid = os.pread(fd, 32, 0).decode().strip()
        raise errors.FailedPrecondition(
            f"Fased is already running (pid {pid or 'unknown'}) on {folder}",
            reason="ALREADY_RUNNING",
            metadata={"field": "state_dir", "path": str(folder), "pid": pid},
        ) from exc
    except OSError as exc:
        raise file_error(exc, folder) from exc
