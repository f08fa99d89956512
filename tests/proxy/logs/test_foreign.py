"""Logs of other proxies are recognised by their lines, and by nothing else."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.proxy.logs.foreign import FOREIGN_LOGS, ForeignLog, read_failures, read_served, recognise_log
from pcapdiag.proxy.logs.foreign_format import asked_for, failed_try, origin_form

APACHE, HAPROXY = "Apache httpd", "HAProxy"
FORMATS = {known.proxy: known for known in FOREIGN_LOGS}

APACHE_LINES = (
    "[Tue Dec 01 03:51:03.004325 2026] [mpm_event:notice] [pid 6228:tid 6228] AH00489: Apache/2.4.71 configured",
    "[Tue Dec 01 03:51:13.233325 2026] [proxy_http:error] [pid 6229:tid 6231] (20014)Internal error: AH01102: error",
    "[Tue Dec  1 03:51:14 2026] [proxy:error] [pid 6229] AH00898: Error reading from remote server returned by /api",
)
HAPROXY_LINE = (
    '192.0.2.2:42496 [01/Dec/2026:03:47:06.576] f b/s2 0/0/160/209/369 200 188 - - ---- 3/3/2/0/0 0/0 "GET /"'
)
NGINX_ERROR = '2026/12/01 03:47:06 [error] 9#9: *5 upstream prematurely closed connection, upstream: "http://10.1.1.1/"'
NGINX_ACCESS = '192.0.2.2 - - [01/Dec/2026:03:47:06 +0000] "GET / HTTP/1.1" 200 188 "-" "curl"'


@pytest.fixture
def log(tmp_path):
    def write(*lines, name="some.log"):
        path = tmp_path / name
        text = "".join(f"{line}\n" for line in lines).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        return recognise_log(str(path))

    return write


def test_an_error_log_of_apache_is_recognised(log):
    assert log(*APACHE_LINES).format.proxy == APACHE


@pytest.mark.parametrize("prefix", ["", "Dec  1 03:47:06 lb haproxy[812]: ", "<134>Dec  1 03:47:06 haproxy[8]: "])
def test_a_log_of_haproxy_is_recognised_with_and_without_syslog(log, prefix):
    assert log(prefix + HAPROXY_LINE).format.proxy == HAPROXY
    assert log(prefix + HAPROXY_LINE, name="h.log.gz").format.proxy == HAPROXY


@pytest.mark.parametrize(
    "lines", [(), ("",), (NGINX_ERROR,), (NGINX_ACCESS,), (NGINX_ERROR, NGINX_ERROR, APACHE_LINES[0])]
)
def test_logs_of_nginx_and_nothing_are_nobody_elses(log, lines):
    assert log(*lines) is None


def test_a_log_that_is_not_there_is_nobodys(tmp_path):
    assert recognise_log(str(tmp_path / "none.log")) is None
    assert recognise_log(str(tmp_path)) is None


def test_hostile_lines_are_read_in_bounded_time(log):
    assert log("[" * 100_000, "1:" * 50_000, "\0" * 1000, "\x1b[31m" + "9" * 90_000) is None


def samples():
    return [
        pytest.param(known, kind, id=f"{known.proxy} {kind.sign}") for known in FOREIGN_LOGS for kind in known.kinds
    ]


@pytest.mark.parametrize(("known", "kind"), samples())
def test_each_kind_of_message_is_told_by_its_sample(known, kind):
    """A row of the table of kinds that no line reaches would be a promise that nothing keeps."""
    assert known.is_record(kind.sample)
    entry = known.read("some.log", 7, kind.sample).entry
    assert (entry.path, entry.line, entry.concerns_upstream) == ("some.log", 7, True)
    assert kind.meaning in entry.message
    assert entry.action == kind.action


@pytest.mark.parametrize("known", FOREIGN_LOGS, ids=lambda known: known.proxy)
def test_a_proxy_whose_log_is_read_is_one_that_reports_can_name(known):
    assert ProxyKind(known.proxy).value == known.proxy


@pytest.mark.parametrize("known", FOREIGN_LOGS, ids=lambda known: known.proxy)
@given(data=st.data())
def test_no_line_makes_a_reader_raise(known, data):
    """A line that somebody sent, or the half of one, is no line of the log, a notice, or an entry."""
    sample = data.draw(st.sampled_from(known.kinds)).sample
    at = data.draw(st.integers(0, len(sample)))
    put_in = data.draw(st.text(max_size=30) | st.sampled_from(['"', " ", "/", "-", "9" * 30, "]", "AH01102: "]))
    text = sample[:at] + put_in + sample[at + data.draw(st.integers(0, 20)) :]
    for line in (text, put_in, sample[:at]):
        known.is_record(line)
        record = known.read("some.log", 1, line)
        assert record is None or record.entry is None or record.entry.width_ns > 0


@pytest.fixture
def entries(tmp_path):
    def read(proxy, *lines, **addresses):
        path = tmp_path / "some.log"
        path.write_text("".join(f"{line}\n" for line in lines))
        known = ForeignLog(str(path), FORMATS[proxy])
        failures, served = read_failures(known, addresses), read_served(known, addresses)
        return list(failures), list(served), failures.counts

    return read


def test_lines_are_counted_once_and_only_failures_are_entries(entries):
    bad = HAPROXY_LINE.replace("----", "SH--")
    found, served, counts = entries(HAPROXY, HAPROXY_LINE, "what?", bad, "Server b/s1 is DOWN, reason: Layer4 timeout")
    assert ([e.line for e in found], [a.line for a in served]) == ([3], [1, 3])
    assert (counts.n_lines, counts.n_records, counts.n_unparsed) == (4, 3, 1)


@pytest.mark.parametrize("proxy", FORMATS)
@pytest.mark.parametrize(
    "wrap",
    [
        "2026-12-01T03:47:06.576Z stdout F {}".format,
        "2026-12-01T03:47:06.576Z {}".format,
        "[pod/lb-0/lb] {}".format,
        "lb-1  | {}".format,
        "Dec  1 03:47:06 lb proxy[812]: {}".format,
        "<134>1 2026-12-01T03:47:06.576Z lb proxy 812 - - {}".format,
        lambda line: json.dumps({"log": f"{line}\n", "stream": "stdout", "time": "2026-12-01T03:47:06.576Z"}),
        lambda line: json.dumps({"MESSAGE": line, "_PID": "812"}),
    ],
    ids=["cri", "docker -t", "kubectl --prefix", "compose", "syslog", "rfc5424", "docker", "journald"],
)
def test_whatever_runtimes_wrap_around_a_line_is_taken_off(log, entries, proxy, wrap):
    kind = FORMATS[proxy].kinds[0]
    assert log(wrap(kind.sample)).format.proxy == proxy
    (plain,), _, _ = entries(proxy, kind.sample)
    (wrapped,), _, counts = entries(proxy, wrap(kind.sample))
    assert (wrapped, counts.n_unparsed) == (plain, 0)


@pytest.mark.parametrize("proxy", sorted({known.proxy for known in FOREIGN_LOGS if known.kinds[0].sample[0] == "{"}))
@pytest.mark.parametrize("is_array", [True, False])
def test_an_export_may_spread_each_record_over_lines(log, proxy, is_array):
    samples = [kind.sample for kind in FORMATS[proxy].kinds if kind.sample.startswith("{")]
    objects = [json.loads(sample) for sample in samples]
    text = json.dumps(objects, indent=2) if is_array else "\n".join(json.dumps(o, indent=4) for o in objects)
    spread, plain = log(*text.split("\n"), name="spread.log"), log(*map(json.dumps, objects), name="plain.log")
    assert spread.format is plain.format is FORMATS[proxy]
    assert [(e.kind, e.ts_s, e.target) for e in read_failures(spread, {})] == [
        (e.kind, e.ts_s, e.target) for e in read_failures(plain, {})
    ]
    lines = text.split("\n")
    assert all(lines[entry.line - 1].strip() == "{" for entry in read_failures(spread, {}))


def test_an_object_that_never_ends_hides_no_line(log):
    known = log(*[APACHE_LINES[1]] * 3, "{", *[APACHE_LINES[1]] * 2000)
    assert len(list(read_failures(known, {}))) == 2003


def test_a_server_has_the_address_that_the_configuration_gives_its_name(entries):
    found, served, _ = entries(HAPROXY, HAPROXY_LINE.replace("----", "SH--"), **{"b/s2": "10.1.1.2:80"})
    assert (found[0].upstream_peer, found[0].upstream) == ("10.1.1.2:80", "b/s2")
    assert served[0].tries[-1].addr == "10.1.1.2:80"


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("/a?b", "/a?b"),
        ("http://x.example/a", "/a"),
        ("HTTPS://x.example:8443", "/"),
        ("/r?to=http://x/", "/r?to=http://x/"),
        ("*", "*"),
        ("", ""),
    ],
)
def test_a_target_is_compared_as_it_is_sent_on(target, sent):
    assert origin_form(target) == sent


def test_what_was_no_request_has_no_method():
    assert asked_for("<BADREQ>") == ("", "", "")
    assert asked_for("GET / HTTP/1.1") == ("GET", "/", "HTTP/1.1")


def test_a_stamp_keeps_what_it_says_beyond_the_second():
    kind = FORMATS[HAPROXY].kinds[0]
    entry = failed_try("x", 1, 1_796_096_836_999_000_000, 2_000_000, kind, "10.1.1.1:80", "m")
    assert (entry.ts_s, entry.ts_ns, entry.width_ns) == (1_796_096_836, 1_796_096_836_999_000_000, 2_000_000)
