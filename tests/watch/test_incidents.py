"""The incidents on disk."""

import dataclasses
import json

import pytest

from pcapdiag.watch.incidents import LIST, prune, publish, still_there, write_list
from pcapdiag.watch.job import BUNDLE, REPORT
from pcapdiag.watch.model import JobResult, KeptIncident, Reported

S = 1_000_000_000
BEGAN_NS = 1_795_218_956 * S
FOUND = Reported("PD101/x", "PD101", "race", "warning", "10.1.1.1:80", "m", ("k",), 1, BEGAN_NS, BEGAN_NS + S)
WORSE = dataclasses.replace(FOUND, identifier="PD301/x", code="PD301", severity="error", first_ts_ns=BEGAN_NS + 2 * S)


@pytest.fixture
def place(tmp_path):
    """Return the folder for incidents, and a function that makes a report as a job does, and publishes it."""

    def make(*findings, is_bundle=False):
        job = tmp_path / "job"
        job.mkdir(exist_ok=True)
        if is_bundle:
            (job / BUNDLE).write_bytes(b"zip")
        else:
            (job / REPORT).mkdir()
            (job / REPORT / "report.md").write_bytes(b"12345")
        return publish(JobResult(findings, written=True, count=3), job, tmp_path / "out", ("a gap",))

    (tmp_path / "out").mkdir()
    return tmp_path / "out", make


def test_an_incident_is_named_by_when_it_began_and_by_its_worst_finding(place):
    out, make = place
    incident = make(FOUND, WORSE)
    assert (incident.path, incident.code, incident.severity) == ("20261120T235558Z-PD301", "PD301", "error")
    assert (incident.first_ts_ns, incident.last_ts_ns) == (BEGAN_NS, BEGAN_NS + S)
    assert (incident.identifiers, incident.count, incident.missing) == (("PD101/x", "PD301/x"), 3, ("a gap",))
    assert incident.n_bytes == 5
    assert (out / incident.path / "report.md").exists()


def test_another_of_the_same_second_gets_a_number_and_replaces_nothing(place):
    out, make = place
    stamp = "20261120T235556Z-PD101"
    assert [make(FOUND, is_bundle=True).path for _ in range(3)] == [f"{stamp}.zip", f"{stamp}-2.zip", f"{stamp}-3.zip"]
    assert len(list(out.iterdir())) == 3


def test_a_time_that_no_calendar_has_is_a_number(place):
    _, make = place
    assert make(dataclasses.replace(FOUND, first_ts_ns=10**21)).path == f"{10**21}ns-PD101"


def kept(out, sizes, most, most_bytes):
    incidents = []
    for number, size in enumerate(sizes):
        (out / f"{number}").mkdir()
        incidents.append(KeptIncident(f"{number}", "PD101", "", "error", "", "", (), 1, 0, 0, size))
    left = prune(incidents, out, most, most_bytes)
    assert sorted(path.name for path in out.iterdir()) == [incident.path for incident in left]
    return [incident.path for incident in left]


@pytest.mark.parametrize(
    ("most", "most_bytes", "left"),
    [(9, 999, ["0", "1", "2", "3"]), (2, 999, ["2", "3"]), (9, 25, ["2", "3"]), (9, 5, ["3"]), (0, 0, ["3"])],
)
def test_the_oldest_go_and_the_newest_always_stays(place, most, most_bytes, left):
    assert kept(place[0], [10, 10, 10, 10], most, most_bytes) == left


def test_of_a_link_only_the_link_goes(place, tmp_path):
    out, _ = place
    (tmp_path / "theirs").mkdir()
    (out / "a").symlink_to(tmp_path / "theirs")
    (out / "b").mkdir()
    incidents = [KeptIncident(name, "PD101", "", "error", "", "", (), 1, 0, 0) for name in ("a", "b")]
    prune(incidents, out, 1, 999)
    assert (tmp_path / "theirs").is_dir()
    assert not (out / "a").is_symlink()


def test_what_somebody_removed_is_no_longer_listed(place):
    out, make = place
    first, second = make(FOUND, is_bundle=True), make(FOUND, is_bundle=True)
    (out / first.path).unlink()
    (out / second.path).write_bytes(b"larger than it was")
    (left,) = still_there([first, second], out)
    assert (left.path, left.n_bytes) == (second.path, 18)
    write_list([left], out)
    (line,) = (out / LIST).read_text().splitlines()
    assert json.loads(line)["first_ts"] == "2026-11-20T23:55:56.000000000Z"
