"""MANIFEST: what is written reads back, what others wrote is refused unless it is what this program writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.errors import UsageError
from pcapdiag.ticket.manifest import MAX_BYTES, MAX_MEMBERS, Manifest, Member, format_manifest, parse_manifest

pytestmark = pytest.mark.compiled_only

SUM = "ab" * 32
NAMES = st.from_regex(r"\A(?:charts/|ticket/)?[a-z0-9][a-z0-9-]{0,20}\.(?:html|png|adf\.json)\Z")


def manifest(*members, **changes):
    facts = {"report": "0123456789abcdef", "tool": "pcapdiag 0.1.0", "redacted": True, "anonymized": False, **changes}
    return Manifest(members=members or (Member("report.html", 12, SUM),), **facts)


@given(
    st.lists(NAMES, min_size=1, max_size=8, unique=True),
    st.booleans(),
    st.booleans(),
    st.integers(0, 10**12 - 1),
)
def test_what_is_written_reads_back(names, redacted, anonymized, size):
    written = manifest(*(Member(n, size, SUM) for n in names), redacted=redacted, anonymized=anonymized)
    assert parse_manifest(format_manifest(written).encode()) == written


@given(st.binary(max_size=400))
def test_any_bytes_are_a_manifest_or_a_plain_refusal(data):
    with pytest.raises(UsageError, match="not one that pcapdiag wrote"):
        parse_manifest(data)


@given(st.data())
def test_a_changed_byte_is_noticed_or_harmless(data):
    good = format_manifest(manifest()).encode()
    at = data.draw(st.integers(0, len(good) - 1))
    changed = good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + 1 :]
    try:
        read = parse_manifest(changed)
    except UsageError:
        return
    assert format_manifest(read).encode() == changed


@pytest.mark.parametrize(
    "name",
    [
        "../report.html",
        "/etc/passwd",
        "charts/../../x.png",
        "a/b/c.png",
        "..",
        ".hidden",
        "C:x.html",
        "a\\b.html",
        "report.html ",
        "REPORT.html",
        "MANIFEST",
        "caf\u00e9.html",
        "r\u202egnp.html",
        "-rf.html",
        "x" * 65,
        "",
    ],
)
def test_a_name_that_could_do_harm_is_refused_on_both_ways(name):
    with pytest.raises(ValueError, match="read back"):
        format_manifest(manifest(Member(name, 1, SUM)))
    text = format_manifest(manifest()).replace("report.html", name)
    with pytest.raises(UsageError):
        parse_manifest(text.encode("utf-8"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("format 1", "format 2"),
        ("redacted: yes", "redacted: maybe"),
        ("# anonymized: no\n", ""),
        ("# redacted: yes\n", "# redacted: yes\n# redacted: no\n"),
        ("# size: 12 report.html\n", ""),
        ("# size: 12 report.html\n", "# size: -1 report.html\n"),
        ("# size: 12 report.html\n", "# size: 9999999999999 report.html\n"),
        ("0123456789abcdef", "0123"),
        ("0123456789abcdef", "0123456789ABCDEF"),
        (SUM, SUM[:-1]),
        ("pcapdiag 0.1.0", "other 1"),
        ("\n", "\r\n"),
    ],
)
def test_what_pcapdiag_does_not_write_is_refused(old, new):
    text = format_manifest(manifest())
    assert old in text
    with pytest.raises(UsageError):
        parse_manifest(text.replace(old, new).encode())


def test_too_many_members_and_too_many_bytes_are_refused():
    with pytest.raises(ValueError, match="read back"):
        format_manifest(manifest(*(Member(f"f{n}.png", 1, SUM) for n in range(MAX_MEMBERS + 1))))
    with pytest.raises(UsageError):
        parse_manifest(format_manifest(manifest()).encode() + b"\n" * MAX_BYTES)
