"""The names under which logs hold what an entry needs, and the lists that nginx writes for several tries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.logs.entries import CUT_OFF, Try
from pcapdiag.proxy.logs.variables import SLOTS, access_entry, plan_of, upstream_entry, values_by

MS = 1_000_000


def entry(**values):
    return access_entry("a.log", 3, values_by(plan_of(tuple(values)), list(values.values())))


def tries(addr, status="", response="", connect="", header=""):
    made = entry(
        upstream_addr=addr,
        upstream_status=status,
        upstream_response_time=response,
        upstream_connect_time=connect,
        upstream_header_time=header,
    )
    return made.tries


def test_a_name_may_be_written_in_any_case_with_dashes_or_dots():
    for name in ("X-Request-ID", "x_request_id", "x.request.id"):
        assert entry(**{name: "abc"}).request_id == "abc"


def test_of_several_names_of_a_slot_the_most_exact_counts():
    assert entry(time="1", msec="1700000000.123").ts_ns == 1_700_000_000_123 * MS
    assert entry(trace_id="t", request_id="r").request_id == "r"


def test_a_dash_is_nothing_and_a_number_that_is_none_is_minus_one():
    made = entry(status="-", connection="x", request_time="-", request_id="-", remote_addr="10.0.0.1", remote_port="5")
    assert (made.status, made.log_conn, made.request_time_ns, made.request_id) == (-1, -1, -1, "")
    assert (made.client, made.ts_ns, made.tries) == ("10.0.0.1:5", -1, ())


def test_a_request_line_is_taken_apart_and_stands_above_its_parts():
    made = entry(request="GET /a?b HTTP/1.1", method="POST", path="/c")
    assert (made.method, made.target, made.protocol) == ("GET", "/a?b", "HTTP/1.1")


def test_tries_stand_between_commas_and_redirects_between_colons():
    first, second, third = tries("10.0.0.1:80, 10.0.0.2:80 : 10.0.0.3:80", "502, 200 : 200", "0.010, 0.020 : 0.030")
    assert first == Try("10.0.0.1:80", 502, 10 * MS, -1, -1, 0)
    assert (second.addr, second.redirect) == ("10.0.0.2:80", 0)
    assert third == Try("10.0.0.3:80", 200, 30 * MS, -1, -1, 1)


def test_lists_of_other_lengths_leave_gaps_and_lose_no_address():
    made = tries("10.0.0.1:80, 10.0.0.2:80, 10.0.0.3:80", "502, 200", "0.1")
    assert [(t.addr, t.status, t.response_time_ns) for t in made] == [
        ("10.0.0.1:80", 502, 100 * MS),
        ("10.0.0.2:80", 200, -1),
        ("10.0.0.3:80", -1, -1),
    ]


@given(st.lists(st.tuples(st.integers(100, 599), st.integers(0, 10**6)), min_size=1, max_size=6))
def test_what_nginx_writes_for_tries_is_read_back(written):
    made = tries(
        ", ".join(f"10.0.0.{n}:80" for n in range(len(written))),
        ", ".join(str(status) for status, _ in written),
        ", ".join(f"{ms // 1000}.{ms % 1000:03}" for _, ms in written),
    )
    assert [(t.status, t.response_time_ns) for t in made] == [(status, ms * MS) for status, ms in written]


@given(st.lists(st.text(max_size=40), min_size=len(SLOTS), max_size=len(SLOTS)))
def test_whatever_the_values_are_entries_are_made_of_them(values):
    made = access_entry("a.log", 1, values)
    assert made.ts_ns >= -1
    assert upstream_entry("a.log", 1, values).status == made.status


@pytest.mark.parametrize(("text", "status"), [("200", 200), ("000", CUT_OFF), ("0", -1), ("-", -1), ("", -1)])
def test_the_status_of_an_application_is_read_as_that_of_a_proxy(text, status):
    values = [text if slot == "status" else "" for slot in SLOTS]
    assert access_entry("a.log", 1, values).status == status
    assert upstream_entry("a.log", 1, values).status == status
