"""The embedded server on the real thing: private, put away on every way out, sweeping after kills."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from glob import glob
from pathlib import Path
from typing import Any

import pytest
from accounts import NOBODY, Account, copy_program, make_account

from sqladvisor.errors import ServerError
from sqladvisor.server import embedded
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster

INSTALLATIONS = [find_binaries(None).bin_dir, *sorted(glob("/usr/lib/postgresql/*/bin"))]
HOLD = """
import sys
from sqladvisor.server import embedded
from sqladvisor.server.binaries import find_binaries
if "immortal" in sys.argv:  # as if the kernel had not ended the server with us
    embedded._dying_with = lambda parent: None
with embedded.Cluster(find_binaries(None)) as cluster:
    print(cluster.directory, cluster._server.pid, flush=True)
    if sys.stdin.readline() == "raise\\n":
        raise RuntimeError("raised")
    print(cluster.connect().execute("SELECT 'alive'").fetchone()[0], flush=True)
"""
SCHEMA = """CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint NOT NULL, at timestamptz);
"""
QUERY = "SELECT id FROM orders WHERE user_id = 5 AND at > '2024-01-01 00:00';\n"


def hold(account: Account, *arguments: str, **env: str) -> tuple[Any, Path, int]:
    """A process that holds a running cluster; its directory; its server's process."""
    process = account.start("-c", HOLD, *arguments, env=env)
    words = process.stdout.readline().split()
    assert len(words) == 2, process.communicate()
    return process, Path(words[0]), int(words[1])


def audit(account: Account, *arguments: str, **kw: Any) -> Any:
    account.write("schema.sql", SCHEMA)
    account.write("q.sql", QUERY)
    return account.run("audit", "q.sql", "--schema", "schema.sql", *arguments, **kw)


def eventually(check: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not check() and time.monotonic() < deadline:
        time.sleep(0.02)
    return check()


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def listens_on_tcp(pid: int) -> bool:
    def sockets() -> set[str]:
        return {os.readlink(f) for f in Path(f"/proc/{pid}/fd").iterdir()}

    own = sockets()
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in own:
                return True
    return False


def test_it_is_private_and_unprivileged(account: Account) -> None:
    process, directory, server = hold(account)
    for path in (directory, directory / "data", directory / ".s.PGSQL.5432"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
    owner = directory.stat().st_uid
    assert owner == Path(f"/proc/{server}").stat().st_uid != 0
    assert os.geteuid() != 0 or owner == NOBODY
    assert not listens_on_tcp(server)
    assert process.communicate("\n")[0] == "alive\n"
    assert account.left_behind() == []


@pytest.mark.parametrize("way", ["end", "raise", "SIGTERM", "SIGHUP", "SIGINT", "twice"])
def test_it_is_put_away(me: Account, way: str) -> None:
    process, directory, server = hold(me)
    if way.startswith("SIG"):
        process.send_signal(getattr(signal, way))
    if way == "twice":
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.005)
    _, errors = process.communicate("raise\n" if way == "raise" else "\n", timeout=20)
    assert eventually(lambda: not alive(server))
    assert not directory.exists(), errors
    assert me.left_behind() == []


def test_a_signal_while_the_server_is_forked_is_not_lost(me: Account) -> None:
    """A handler that runs in one of Python's own fork hooks raises into nowhere."""
    hooked = HOLD.replace(
        "with embedded", "import os\nos.register_at_fork(before=lambda: os.kill(os.getpid(), 15))\nwith embedded"
    )  # fmt: skip
    process = me.start("-c", hooked)
    assert process.communicate("\n", timeout=20) == ("", "")
    assert process.returncode == 143
    assert me.left_behind() == []


@pytest.mark.parametrize("after_s", [0.3, 0.8, 1.4])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_can_be_stopped_anywhere(
    me: Account, number: signal.Signals, after_s: float
) -> None:
    process = me.start("-m", "sqladvisor", "demo", "--scale", "0.3")
    assert eventually(lambda: bool(list(me.tmp.glob("sqladvisor-pg-*"))))
    time.sleep(after_s)
    process.send_signal(number)
    out, errors = process.communicate(timeout=20)
    assert me.left_behind() == []
    assert out == ""
    if number == signal.SIGINT:
        assert (process.returncode, errors) == (130, "sqladvisor: interrupted\n")
    else:
        assert (process.returncode, errors) == (143, "")


@pytest.mark.parametrize("orphan", ["dies with it", "immortal"])
def test_what_a_killed_run_left_is_swept(account: Account, orphan: str) -> None:
    process, directory, server = hold(account, orphan)
    process.kill()
    process.communicate()
    if orphan == "immortal":
        time.sleep(0.2)
        assert alive(server)
    else:
        assert eventually(lambda: not alive(server))
    assert directory.exists()
    second, other, _ = hold(account)
    assert not alive(server)
    assert not directory.exists()
    second.communicate("\n")
    assert not other.exists()
    assert account.left_behind() == []


def test_two_at_a_time_leave_each_other_alone(me: Account) -> None:
    one, first, _ = hold(me)
    two, second, _ = hold(me)
    assert first != second
    assert two.communicate("\n")[0] == "alive\n"
    assert first.exists()
    assert one.communicate("\n")[0] == "alive\n"
    assert me.left_behind() == []


def test_two_first_runs_at_once_make_one_template(me: Account) -> None:
    started = [me.start("-c", HOLD, env={"XDG_CACHE_HOME": str(me.home / "both")}) for _ in "12"]
    assert [p.communicate("\n")[0].splitlines()[-1] for p in started] == ["alive", "alive"]
    assert [p.name[:8] for p in (me.home / "both/sqladvisor").iterdir()] == ["cluster-"]


def cut(template: Path) -> None:
    with open(template / "global/pg_control", "r+b") as file:
        file.truncate(100)


def zero(template: Path) -> None:
    path = max((template / "base/5").glob("1*"), key=lambda p: p.stat().st_size)
    path.write_bytes(bytes(path.stat().st_size))


def garble(template: Path) -> None:
    (template / "complete").write_bytes(b"\xff\xfe")


def age(template: Path) -> None:
    """A template whose checksum is right and whose server does not start."""
    (template / "postgresql.conf").write_text("no_such_setting = 1\n")
    (template / "complete").write_text(embedded._fingerprint(template))


@pytest.mark.parametrize("damage", [cut, zero, garble, age])
def test_a_damaged_template_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ours = Path(os.path.expanduser("~/.cache/sqladvisor"))
    if ours.exists():
        shutil.copytree(ours, tmp_path / "sqladvisor", symlinks=True)
    binaries = find_binaries(None)
    template = embedded._template_path(binaries)
    assert template is not None
    said: list[str] = []
    if not template.exists():
        with Cluster(binaries):
            pass
    damage(template)
    with Cluster(binaries, progress=said.append) as cluster, cluster.connect() as session:
        assert session.execute("SELECT count(*) FROM pg_class").fetchone()
    assert "initialising PostgreSQL (once)" in said
    assert (template / "complete").read_text() == embedded._fingerprint(template)


def test_a_cache_that_is_not_ours_is_not_used(home: Path) -> None:
    """As sudo leaves it behind: a root-owned directory that the user may not even list."""
    ordinary = make_account("ordinary", home)
    cache = ordinary.home / "foreign"
    (cache / "sqladvisor").mkdir(parents=True)
    (cache / "sqladvisor").chmod(0o000)
    try:
        process, _, _ = hold(ordinary, XDG_CACHE_HOME=str(cache))
        assert process.communicate("\n")[0] == "alive\n"
        assert os.geteuid() != 0 or not os.listdir(cache / "sqladvisor")
    finally:
        (cache / "sqladvisor").chmod(0o700)


def test_temporary_directories_that_do_not_serve(account: Account, home: Path) -> None:
    sealed = account.home / "sealed"
    sealed.mkdir()
    sealed.chmod(0o555)
    far = account.home / ("deep" * 30)
    far.mkdir()
    if account.ids:
        os.chown(far, NOBODY, NOBODY)
    for place in (sealed, far, account.home / "nowhere"):
        process, directory, _ = hold(account, TMPDIR=str(place))
        assert process.communicate("\n")[0] == "alive\n"
        assert not directory.exists()
        if place != sealed or account.ids:
            assert str(directory).startswith("/tmp/")


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def tmpfs() -> list[str]:
    """The command that gives a program a full disk for its temporary files, where we may."""
    command = [
        "unshare",
        "-m",
        "sh",
        "-c",
        'mount -t tmpfs -o size=6m none "$TMPDIR" && exec "$@"',
        "-",
    ]
    try:
        done = subprocess.run([*command, "true"], capture_output=True, check=False,
                              env={**os.environ, "TMPDIR": "/mnt"})  # fmt: skip
    except OSError:
        return []
    return command if done.returncode == 0 else []


@pytest.mark.parametrize("full", ["limit", *(["tmpfs"] if tmpfs() else [])])
def test_no_room_is_one_line(me: Account, full: str) -> None:
    me.write("schema.sql", SCHEMA)
    me.write("q.sql", QUERY)
    program = ["-m", "sqladvisor", "audit", "q.sql", "--schema", "schema.sql", "--format", "json"]
    wrap = tmpfs() if full == "tmpfs" else []
    done = subprocess.run(
        [*wrap, *me.python, *program], env=me.environment(), cwd=me.home, capture_output=True,
        text=True, check=False, preexec_fn=small_files if full == "limit" else None,
    )  # fmt: skip
    assert done.returncode == 2, done
    assert done.stderr == ""
    (problem,) = json.loads(done.stdout)["errors"]
    assert problem["path"] == "embedded server"
    assert "\n" not in problem["message"]
    assert "No space left" in problem["message"] or "File" in problem["message"], problem
    assert json.loads(done.stdout)["summary"]["statements"] == 1
    assert me.left_behind() == []


def test_the_users_postgres_variables_stay_outside(me: Account) -> None:
    hostile = {
        "PGHOST": "db.invalid", "PGHOSTADDR": "192.0.2.1", "PGPORT": "xx", "PGUSER": "joe",
        "PGDATABASE": "gone", "PGSERVICE": "nope", "PGOPTIONS": "-c no_such=1", "PGTZ": "Asia/Tokyo",
        "PGDATESTYLE": "German", "PGGEQO": "off", "PGCONNECT_TIMEOUT": "abc", "PGSSLMODE": "verify-full",
        "PGREQUIREAUTH": "scram-sha-256", "PGCLIENTENCODING": "KOI8", "PGPASSWORD": "hunter2",
        "PGTARGETSESSIONATTRS": "standby", "PGLOADBALANCEHOSTS": "x", "PGDATA": "/nowhere",
        "PGPASSFILE": "/etc/shadow", "PGCHANNELBINDING": "require", "PGSSLMINPROTOCOLVERSION": "x",
    }  # fmt: skip
    clean = audit(me, "--analyze")
    assert (clean.returncode, clean.stderr) == (0, "")
    assert "index/missing" in clean.stdout
    assert audit(me, "--analyze", env=hostile).stdout == clean.stdout


@pytest.mark.parametrize("installation", INSTALLATIONS)
def test_every_installation_found_here_serves(me: Account, installation: str) -> None:
    done = audit(me, "--postgres-bin", installation)
    version = find_binaries(installation).version
    assert f"embedded PostgreSQL {version}" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    assert "ON orders (user_id, at) INCLUDE (id)" in done.stdout


def test_the_systems_installation(me: Account) -> None:
    done = audit(me, "--postgres-bin", "system")
    if len(INSTALLATIONS) > 1 or shutil.which("pg_config") or shutil.which("postgres"):
        assert "embedded PostgreSQL" in done.stdout
        assert done.returncode == 0
    else:
        assert "no local PostgreSQL found" in done.stdout
        assert done.returncode == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no `postgres` and `initdb` programs there"),
        ("#!/bin/sh\nexit 1\n", "does not say its version"),
        ("not a program", "does not say its version"),
        ("#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.24'\n", "9.6 is too old, 13 or newer"),
        ("#!/bin/sh\n[ $1 = --version ] && echo 'postgres (PostgreSQL) 18.1'\n", "initdb failed"),
    ],
)
def test_installations_that_do_not_serve_are_one_line(
    me: Account, content: str | None, says: str
) -> None:
    folder = me.home / "bin"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("postgres", "initdb") if content else ():
        (folder / name).write_text(content or "")
        (folder / name).chmod(0o755)
    done = audit(me, "--postgres-bin", str(folder))
    assert done.returncode == 2
    assert done.stderr == ""
    (line,) = [x for x in done.stdout.splitlines() if "cannot audit" in x]
    assert says in line
    assert me.left_behind() == []


def test_a_pipe_in_a_directory_that_looks_like_ours_stops_nobody(account: Account) -> None:
    trap = account.tmp / "sqladvisor-pg-trap"
    (trap / "data").mkdir(parents=True)
    os.mkfifo(trap / "owner")
    os.mkfifo(trap / "data" / "postmaster.pid")
    for path in (trap, trap / "owner", trap / "data"):
        os.utime(path, (1, 1))
        if account.ids:
            os.chown(path, NOBODY, NOBODY)
    process, _, _ = hold(account)
    process.communicate("\n")
    assert account.left_behind() == []


if os.geteuid() == 0:

    def test_programs_that_only_root_can_reach_are_copied(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
    ) -> None:
        sealed = tmp_path / "sealed"
        sealed.mkdir(mode=0o700)
        (sealed / "bin").symlink_to(find_binaries(None).bin_dir)
        monkeypatch.setattr(embedded, "_COPIES", (str(home / "copies"),))
        for _ in range(2):
            with Cluster(find_binaries(str(sealed / "bin"))) as cluster:
                assert cluster._bin_dir.startswith(str(home / "copies"))
        monkeypatch.setattr(embedded, "_COPIES", ("/proc/copies",))
        with pytest.raises(ServerError, match=r"cannot reach it.*\(/proc/copies: .*ordinary user"):
            Cluster(find_binaries(str(sealed / "bin"))).__enter__()

    def test_the_ordinary_account_does_without_our_virtual_environment(home: Path) -> None:
        """The copy that the tests above fall back to, where ours cannot be read, works too."""
        ordinary = make_account("ordinary", home)
        python, path = copy_program(home / "copied")
        copied = Account("ordinary", ordinary.home, python, path, ordinary.ids)
        done = audit(copied)
        assert (done.returncode, done.stderr) == (0, "")
        assert "index/missing" in done.stdout


def test_a_forked_child_leaves_the_cluster_to_its_parent() -> None:
    with Cluster(find_binaries(None)) as cluster:
        child = os.fork()
        if child == 0:
            cluster.close()
            os._exit(0)
        os.waitpid(child, 0)
        with cluster.connect() as session:
            assert session.execute("SELECT 1").fetchone() == (1,)


def test_a_server_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(embedded._SETTINGS, "shared_buffers", "lots")
    monkeypatch.setattr(embedded, "_template_path", lambda _: None)
    with pytest.raises(ServerError, match=r'did not start: .*"shared_buffers"') as caught:
        Cluster(find_binaries(None)).__enter__()
    assert "\n" not in str(caught.value)


def test_an_account_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(embedded, "UNPRIVILEGED", "no-such-user")
    with pytest.raises(ServerError, match="there is no user 'no-such-user'"):
        embedded._account()
