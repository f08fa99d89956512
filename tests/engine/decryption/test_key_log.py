"""Key logs: what is kept of them, and what is no key log."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.errors import LogError, UsageError
from pcapdiag.engine.decryption import key_log
from pcapdiag.engine.decryption.key_log import MASTER, KeyLog, check_key_log

RANDOM, OTHER, SECRET = bytes(range(32)), bytes(32), bytes(range(48))


def line(random=RANDOM, secret=SECRET, label=MASTER):
    return f"{label} {random.hex()} {secret.hex()}\n".encode()


def known(*lines, wanted=(RANDOM,)):
    keys = KeyLog(wanted)
    keys.read_block(b"".join(lines))
    return keys


def test_the_secrets_of_wanted_sessions_alone_are_kept():
    keys = known(b"# made by a browser\n", line(), line(OTHER))
    assert keys.secrets_of(RANDOM) == {MASTER: SECRET}
    assert keys.secrets_of(OTHER) == {}
    assert keys.n_known == 1


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_lines_end_as_any_system_ends_them(end):
    assert known(line().strip() + end).secrets_of(RANDOM) == {MASTER: SECRET}


@pytest.mark.parametrize(
    "odd",
    [
        line(label="EXPORTER_SECRET"),
        line(random=RANDOM[:-1]),
        line(secret=b""),
        line(secret=bytes(80)),
        line().replace(b" ", b"\t"),
        b"RSA " + RANDOM[:8].hex().encode() + b" " + SECRET.hex().encode() + b"\n",
        bytes(range(256)) * 10 + b"\n",
    ],
)
def test_what_is_no_secret_of_records_is_passed_over(odd):
    assert known(odd, line()).secrets_of(RANDOM) == {MASTER: SECRET}
    assert known(odd).n_known == 0


@given(st.binary(max_size=2000))
def test_any_bytes_are_read_without_error_and_are_no_key(data):
    assert known(data).n_known == 0


def test_a_line_without_end_is_no_key_and_costs_no_memory():
    assert known(b"A" * 5_000_000).n_known == 0
    assert known(b"A" * 5_000_000 + b"\n" + line()).n_known == 1


def test_only_so_much_is_read(monkeypatch):
    monkeypatch.setattr(key_log, "MOST_FILE_BYTES", 10_000)
    assert known(b"#\n" * 6_000, line()).n_known == 0
    assert known(b"#\n" * 4_000, line()).n_known == 1


def test_an_empty_file_may_still_become_a_key_log(tmp_path):
    (tmp_path / "keys").touch()
    check_key_log(str(tmp_path / "keys"))


def test_a_key_log_is_told_from_what_is_none(tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(b"# comment\n" * 100 + line())
    bad.write_bytes(os.urandom(3 << 20))
    check_key_log(str(good))
    with pytest.raises(UsageError, match="no key log"):
        check_key_log(str(bad))


@pytest.mark.parametrize("read", [check_key_log, lambda path: KeyLog([RANDOM]).read_file(path)])
def test_what_has_no_end_or_can_be_read_once_is_refused_at_once(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/zero", "/dev/null", str(tmp_path)):
        with pytest.raises((UsageError, LogError), match=r"key log|takes a file"):
            read(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LogError, match=r"cannot read the key log .*missing: No such file"):
        check_key_log(str(tmp_path / "missing"))


def test_the_secrets_are_in_no_text_of_the_object():
    keys = known(line())
    assert SECRET.hex() not in repr(keys)
    assert repr(SECRET) not in repr(keys)
