"""Opens the database of a store: SQLite in the user's data folder or anywhere, or PostgreSQL; the schema made current.

Knows connections, transactions and what can go wrong with them; knows no table's meaning. One writer at a time: SQLite
has one lock, and PostgreSQL is given one, so that a transaction that writes sees the rows that it decides by.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pcapdiag.base.errors import SCAN_AGAIN, MissingExtraError, StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

HEAD: Final = "0002"
"""The newest migration; a test holds it to `migrations/versions`."""

_BUSY_MS: Final = 60_000
_WRITE_LOCK: Final = 0x70636170
"""Key of the advisory lock on PostgreSQL that a writing transaction holds: `pcap` in ASCII."""
_PATIENCE: Final = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": _BUSY_MS,
}
"""How long PostgreSQL may be silent, where its URL does not say: nobody waits for ever for a server that is gone."""

_SECRETS: Final = frozenset({"password", "sslpassword"})
_FULL: Final = ("SQLITE_FULL", "SQLITE_IOERR", "53100")
_BUSY: Final = ("SQLITE_BUSY", "55P03")


def default_store() -> str:
    """Return the URL of the store in the user's data folder."""
    folder = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "pcapdiag"
    return f"sqlite:///{folder / 'store.db'}"


def require_store(url: str) -> None:
    """Raise `StoreError` if there is no store to read from, instead of making an empty one.

    Parameters
    ----------
    url : str
        As `Database` takes it.

    Raises
    ------
    StoreError
        There is no such file.
    """
    path = _sqlite_path(url)
    if path is not None and not path.is_file():
        msg = f"there is no store at {path}: run `pcapdiag scan` first, or name another with --store"
        raise StoreError(msg)


class Database:
    """An open database whose schema is current.

    Parameters
    ----------
    url : str
        ``sqlite:///PATH``, ``postgresql://...`` or the path of an SQLite file.

    Attributes
    ----------
    path : Path or None
        The SQLite file; None for a server.

    Raises
    ------
    MissingExtraError
        A package that it needs is not installed.
    StoreError
        It cannot be opened, or a newer program made it.
    UsageError
        The URL makes no sense.
    """

    def __init__(self, url: str) -> None:
        self.path = _sqlite_path(url)
        if self.path is not None:
            _make_private(self.path)
        self.engine = _open(url, self.path)
        try:
            self._migrate()
        except BaseException:
            self.engine.dispose()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that sees one state of the database.

        Yields
        ------
        Connection
            For queries.
        """
        with _explained(self.engine), self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN" if self.path else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that no other writer runs beside; it is committed at the end.

        Yields
        ------
        Connection
            For statements.
        """
        with _explained(self.engine), self.engine.connect() as connection:
            if self.path:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_BUSY_MS}")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})")
            yield connection
            connection.commit()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _migrate(self) -> None:
        with self.reading() as connection:
            if _revision(connection) == HEAD:
                return
        with self.writing() as connection:
            revision = _revision(connection)  # another process may have been faster
            if revision != HEAD:
                _upgrade(connection, revision)


def _sqlite_path(url: str) -> Path | None:
    scheme, separator, rest = url.partition("://")
    if not separator and url.startswith(("postgresql:", "postgres:", "sqlite:")):
        msg = "--store: two slashes follow the colon, as in postgresql://USER@HOST/NAME and sqlite:///PATH"
        raise UsageError(msg)
    if not separator:
        return Path(url).absolute()
    if scheme.partition("+")[0] == "sqlite":
        if not rest.startswith("/") or rest == "/" or rest.startswith("/:memory:"):
            msg = f"{url}: name a file, as in sqlite:////var/lib/pcapdiag/store.db"
            raise UsageError(msg)
        return Path(rest[1:]).absolute()
    if scheme.partition("+")[0] not in {"postgresql", "postgres"}:
        msg = (
            f"--store {scheme}://: a store is an SQLite file (a path or sqlite:///PATH) or postgresql://USER@HOST/NAME"
        )
        raise UsageError(msg)
    return None


def _make_private(path: Path) -> None:
    """Make the file before SQLite does, so that nobody but its owner ever reads it; it lends its mode to the others."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        msg = f"cannot open the store {path}: {error.strerror}; name another place with --store"
        raise StoreError(msg) from error


def _open(url: str, path: Path | None) -> Engine:
    try:
        from sqlalchemy import URL, create_engine, event, make_url  # noqa: PLC0415 - only a store needs it
        from sqlalchemy.exc import ArgumentError  # noqa: PLC0415 - the same
    except ImportError as error:
        msg = "a store needs SQLAlchemy: pip install 'pcapdiag[scan]'"
        raise MissingExtraError(msg) from error
    if path is None:
        try:
            import psycopg  # noqa: F401, PLC0415 - whether it is there
        except ImportError as error:
            msg = "a store on PostgreSQL needs psycopg: pip install 'pcapdiag[postgres]'"
            raise MissingExtraError(msg) from error
        try:
            server = make_url(url).set(drivername="postgresql+psycopg")
            patience = {name: value for name, value in _PATIENCE.items() if name not in server.query}
            return create_engine(server, pool_size=2, max_overflow=2, pool_pre_ping=True, connect_args=patience)
        except (ArgumentError, ValueError) as error:
            msg = "--store: this URL cannot be read; it looks like postgresql://USER@HOST/NAME"
            raise UsageError(msg) from error
    # Transactions begin when `Database` says so, not when the driver thinks that one is due.
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"isolation_level": None})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in ("busy_timeout", _BUSY_MS), ("synchronous", "FULL"), ("foreign_keys", 1):
            connection.execute("PRAGMA {} = {}".format(*pragma))
        _use_wal(connection)

    return engine


def _use_wal(connection: sqlite3.Connection) -> None:
    """Let readers and a writer work at the same time; the change itself does not wait for others, so it is repeated."""
    until = time.monotonic() + _BUSY_MS / 1000
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _revision(connection: Connection) -> str:
    from sqlalchemy import inspect  # noqa: PLC0415 - only a store needs it

    if not inspect(connection).has_table("alembic_version"):
        return ""
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
    return str(row[0]) if row else ""


def _upgrade(connection: Connection, revision: str) -> None:
    try:
        from alembic import command  # noqa: PLC0415 - only a store that is new or old needs it
        from alembic.config import Config  # noqa: PLC0415 - the same
        from alembic.script import ScriptDirectory  # noqa: PLC0415 - the same
        from alembic.util import CommandError  # noqa: PLC0415 - the same
    except ImportError as error:
        msg = "a store needs Alembic: pip install 'pcapdiag[scan]'"
        raise MissingExtraError(msg) from error

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        if revision:
            ScriptDirectory.from_config(config).get_revision(revision)
        command.upgrade(config, "head")
    except CommandError as error:
        msg = f"a newer pcapdiag made the store (its schema is {revision}): update pcapdiag, or name another --store"
        raise StoreError(msg) from error


@contextmanager
def _explained(engine: Engine) -> Iterator[None]:
    """Turn what the database refuses into a sentence that says what to do."""
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError  # noqa: PLC0415 - only a store needs it

    hidden = {name: "***" if name in _SECRETS else value for name, value in engine.url.query.items()}
    where = engine.url.set(query=hidden).render_as_string(hide_password=True)
    try:
        yield
    except DBAPIError as error:
        msg = f"{_sentence(error.orig, where)}; {SCAN_AGAIN}"
        raise StoreError(msg) from error
    except SQLAlchemyError as error:
        msg = f"the store {where} failed: {error}; {SCAN_AGAIN}"
        raise StoreError(msg) from error
    except sqlite3.Error as error:
        msg = f"{_sentence(error, where)}; {SCAN_AGAIN}"
        raise StoreError(msg) from error


def _sentence(error: Any, where: str) -> str:
    code = str(getattr(error, "sqlite_errorname", "") or getattr(error, "sqlstate", "") or "")
    if code.startswith(_FULL):
        cause = ", or the disk itself fails" if "IOERR" in code else ""
        return f"no room left for the store {where}: make room on its disk{cause}"
    if code.startswith(_BUSY):
        return f"another process has been writing to the store {where} for {_BUSY_MS // 1000} s without an end"
    text = " ".join(str(error).split())
    if not isinstance(error, sqlite3.Error) and (not code or code.startswith(("08", "57P"))):
        return f"the connection to the store {where} failed ({text})"
    return f"the store {where} failed: {text}"
