"""A line per incident on stdout: none is lost while there is no room, and nobody reading is no reason to stop."""

import errno
import json
import os

import pytest

from pcapdiag.cli import watch_lines
from pcapdiag.cli.watch_lines import Lines
from pcapdiag.watch.model import KeptIncident


class Stdout:
    """Takes what the disk has room for."""

    def __init__(self, monkeypatch):
        self.written, self.error, self.said = b"", None, []
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(watch_lines, "say", self.said.append)
        monkeypatch.setattr("sys.stdout", self)

    def fileno(self):
        return 1

    def write(self, _descriptor, data):
        if self.error is not None:
            raise self.error
        self.written += data[:7]
        return len(data[:7])


@pytest.fixture
def stdout(monkeypatch):
    return Stdout(monkeypatch)


def incident(number):
    fields = dict.fromkeys(KeptIncident.__dataclass_fields__, "")
    times = dict.fromkeys((n for n in fields if n.endswith("_ns")), 1_795_218_956 * 10**9)
    given = {"code": "PD101", "count": number, "message": f"m\x1b{number}", "path": f"i{number}"}
    return KeptIncident(**(fields | times | given))


def test_a_line_names_code_count_and_folder_and_holds_no_control_character(stdout):
    Lines("out", as_json=False).tell(incident(3))
    line = stdout.written.decode()
    assert line.startswith("2026-11-20T")
    assert line.endswith("[3 new] out/i3\n")
    assert "PD101" in line
    assert "\x1b" not in line


def test_as_json_each_line_is_an_object(stdout):
    lines = Lines("out", as_json=True)
    lines.tell(incident(1))
    lines.tell(incident(2))
    assert [json.loads(line)["count"] for line in stdout.written.decode().splitlines()] == [1, 2]


def test_what_there_is_no_room_for_is_written_later_in_order(stdout):
    lines = Lines("out", as_json=False)
    stdout.error = OSError(errno.ENOSPC, "full")
    lines.tell(incident(1))
    lines.tell(incident(2))
    assert (stdout.written, len(stdout.said)) == (b"", 2)
    stdout.error = None
    lines.flush()
    assert [line[-2:] for line in stdout.written.decode().splitlines()] == ["i1", "i2"]


def test_where_nobody_reads_recording_goes_on_and_says_so_once(stdout):
    lines = Lines("out", as_json=False)
    stdout.error = BrokenPipeError()
    lines.tell(incident(1))
    lines.tell(incident(2))
    assert len(stdout.said) == 1
    assert "recording goes on" in stdout.said[0]


def test_another_error_is_raised(stdout):
    stdout.error = OSError(errno.EIO, "broken")
    with pytest.raises(OSError, match="broken"):
        Lines("out", as_json=False).tell(incident(1))
