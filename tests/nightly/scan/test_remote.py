"""Captures that lie elsewhere: by sftp, in Google Cloud Storage, and over a connection that breaks."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.nightly.scan import places
from tests.waiting import HANG_S

pytestmark = pytest.mark.compiled_only


def some(folder):
    """Write a plain capture, a packed one and a series."""
    places.capture(folder / "plain" / "proxy.pcap", races=2, resp="10.9.0.1")
    packed = places.capture(folder / "packed" / "proxy.pcap", races=1, resp="10.9.0.2", at_s=60)
    packed.with_suffix(".pcap.gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    for i in range(3):
        name = f"ring_{i:05d}_20231114221320.pcap"
        places.capture(folder / "ring" / name, races=1, at_s=100 * i, orig_port=40_000 + 100 * i)
    (folder / "notes.txt").write_text("what is not named like a capture is left alone\n")
    return folder


def told(folder, store, *options):
    """Scan and return what was counted and found."""
    summary = json.loads(places.scan(folder, store, "--format", "json", *options).stdout)
    return summary["totals"], [(f["identifier"], f["count"], f["state"]) for f in summary["findings"]]


@pytest.mark.parametrize("place", ["sftp", pytest.param("google", marks=pytest.mark.long)])
def test_captures_elsewhere_give_what_they_give_in_a_folder(tmp_path, place, request):
    folder = some(tmp_path / "captures")
    url = request.getfixturevalue(place)(folder)
    here = told(folder, tmp_path / "here.db")
    there = told(url, tmp_path / "there.db")
    assert there == here
    assert (here[0]["read"], here[0]["ok"], len(here[1])) == (5, 5, 2)
    # Names that the program itself found lead back to the files, and what did not change is not read again.
    totals, findings = told(url, tmp_path / "there.db")
    assert (totals["read"], totals["unchanged"], findings) == (0, 5, here[1])
    # A time range looks at both ends of each file first.
    totals, _ = told(f"{url}/plain/*.pcap", tmp_path / "range.db", "--since", "2023-11-14")
    assert totals["ok"] == 1
    places.capture(folder / "plain" / "proxy.pcap", races=3, answered=4, resp="10.9.0.1")
    request.getfixturevalue(place)(folder)
    totals, _ = told(url, tmp_path / "there.db")
    assert totals["read"] == 1


def test_a_web_server_that_knows_no_ranges_is_read_from_the_beginning(tmp_path, begin):
    path = places.capture(tmp_path / "captures" / "a.pcap", filler=9 << 20)
    address = f"127.0.0.1:{places.free_port()}"
    host, _, port = address.partition(":")
    begin(sys.executable, "-m", "http.server", port, "--bind", host, "--directory", str(path.parent))
    places.wait_for_port(f"tcp://{address}")
    there = told(f"http://{address}/a.pcap", tmp_path / "there.db")
    assert there == told(path, tmp_path / "here.db")
    assert there[0]["ok"] == 1


def test_a_host_that_ssh_does_not_know_is_not_trusted(tmp_path, sftp):
    url = sftp(some(tmp_path / "captures"))
    sftp.known_hosts.unlink()
    done = places.scan(url, tmp_path / "store.db", check=(2,))
    assert "is not that in ~/.ssh/known_hosts: connect to it with ssh first" in done.stderr
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    host = url.split("@")[1].split("/")[0].split(":")
    sftp.known_hosts.write_text(f"[{host[0]}]:{host[1]} {other.with_suffix('.pub').read_text()}")
    done = places.scan(url, tmp_path / "store.db", check=(2,))
    assert "is not that in ~/.ssh/known_hosts" in done.stderr


def test_a_key_that_the_server_refuses_is_said_in_one_line(tmp_path, sftp, monkeypatch):
    url = sftp(some(tmp_path / "captures"))
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    shutil.copytree(sftp.known_hosts.parent, tmp_path / "nobody" / ".ssh")
    (tmp_path / "nobody" / ".ssh" / "id_ed25519").unlink()
    done = places.scan(url, tmp_path / "store.db", check=(2,))
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"pcapdiag: cannot open {url}: ")
    assert "uthentication" in line


@pytest.mark.parametrize(
    ("package", "url", "extra"),
    [
        ("fsspec", "s3://b/x.pcap", "remote"),
        ("s3fs", "s3://b/x.pcap", "s3"),
        ("gcsfs", "gs://b/x.pcap", "gcs"),
        ("paramiko", "sftp://host/x.pcap", "remote"),
    ],
)
def test_a_package_that_is_missing_is_named_by_its_extra(tmp_path, package, url, extra):
    code = f"import sys; sys.modules[{package!r}] = None; from pcapdiag.cli import run; run()"
    command = [sys.executable, "-c", code, "scan", url, "--store", str(tmp_path / "store.db")]
    done = subprocess.run(
        command, capture_output=True, text=True, env=places.environment(), check=False, timeout=HANG_S
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"pip install 'pcapdiag[{extra}]'" in line


def test_no_password_of_a_url_is_shown_or_stored(tmp_path):
    done = places.scan("sftp://ops:hunter2@host/x.pcap", tmp_path / "store.db", check=(2,))
    assert "leave the password out of the URL" in done.stderr
    assert "hunter" not in done.stderr + os.linesep.join(places.dump(tmp_path / "store.db"))


def test_an_at_sign_in_a_name_is_no_password(tmp_path, sftp):
    folder = tmp_path / "captures"
    places.capture(folder / "22:10@proxy.pcap")
    assert told(sftp(folder), tmp_path / "store.db")[0]["ok"] == 1


@pytest.mark.long
def test_a_connection_to_s3_that_is_cut_costs_one_file_and_the_next_scan_makes_up_for_it(
    tmp_path, bucket, relay, monkeypatch
):
    folder = places.many(tmp_path / "captures", n=3)
    places.capture(folder / "large" / "large.pcap", races=1, filler=12 << 20)
    url = bucket(folder)
    places.scan(url, tmp_path / "whole.db")
    monkeypatch.setenv("AWS_ENDPOINT_URL", relay(os.environ["AWS_ENDPOINT_URL"]))
    relay.cut(b"/large/large.pcap", from_byte=5 << 20, after=1 << 20)
    done = json.loads(places.scan(url, tmp_path / "cut.db", "--format", "json").stdout)
    assert relay.n_cut > 0
    lost = [file for file in done["files"] if file["path"] == f"{url}/large/large.pcap"]
    assert [(file["status"], file["notes"][0]["code"]) for file in lost] == [("failed", "read-error")]
    assert "the connection was lost" in lost[0]["notes"][0]["text"]
    assert done["totals"]["failed"] == 1 + 2  # and the two that are no captures
    relay.mend()
    again = json.loads(places.scan(url, tmp_path / "cut.db", "--format", "json").stdout)
    assert (again["totals"]["read"], again["totals"]["failed"]) == (1, 0)

    def without_scans(store):
        return [re.sub("'scan': 2", "'scan': 1", line) for line in places.dump(store) if not line.startswith("scans ")]

    assert sorted(without_scans(tmp_path / "cut.db")) == sorted(without_scans(tmp_path / "whole.db"))


@pytest.mark.long
def test_an_s3_that_is_gone_in_the_middle_loses_nothing(tmp_path, bucket, begin, monkeypatch):
    folder = places.many(tmp_path / "captures", n=4)
    url = bucket(folder)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    places.scan(url, tmp_path / "whole.db")
    process = begin(*places.command(url, tmp_path / "cut.db", "--format", "json"))
    places.wait_for_captures(tmp_path / "cut.db", 3)
    bucket.stop()
    out, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 1, err
    done = json.loads(out)
    lost = [file for file in done["files"] if "the connection was lost" in file["notes"][0]["text"]]
    assert {file["status"] for file in lost} == {"failed"}
    assert len(lost) < done["totals"]["found"] - 3
    bucket.start()
    bucket(folder)
    again = json.loads(places.scan(url, tmp_path / "cut.db", "--format", "json").stdout)
    assert again["totals"]["waiting"] == 0
    assert len(lost) - again["totals"]["read"] in {0, 1}  # a copy of a file that was read then counts there
    assert again["totals"]["failed"] <= 2  # those that are no captures, whichever scan came to see it

    def told(store):
        return sorted(line for line in places.dump(store) if line.startswith(("findings ", "sightings ", "date=")))

    assert told(tmp_path / "cut.db") == told(tmp_path / "whole.db") != []
