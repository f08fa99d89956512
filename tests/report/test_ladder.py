"""The ladder: one line per frame, in time, between two ends that line up."""

import dataclasses

from pcapdiag.base.codes import Direction, TcpFlag
from pcapdiag.report.build import build_report
from pcapdiag.report.ladder import build_ladder, on_a_page
from tests.report import builders


def ladder_of(**changes):
    report = builders.report(builders.finding(occurrences=(builders.occurrence(**changes),)))
    return build_ladder(report.findings[0].occurrences[0])


def test_every_frame_of_the_evidence_is_one_line():
    ladder = ladder_of()
    assert [line.frame for line in ladder.lines] == ["98", "106", "109", "116"]
    assert [line.is_request for line in ladder.lines] == [False, True, False, False]
    assert [line.is_closing for line in ladder.lines] == [False, False, True, True]


def test_times_are_relative_to_the_request():
    assert [line.time for line in ladder_of().lines] == ["-3.877 s", "0", "+127.0 ms", "+160.0 ms"]


def test_arrows_say_flags_and_relative_numbers_and_point_where_the_segment_went():
    lines = ladder_of().lines
    assert " PSH,ACK 640:852(212) ack 716 " in lines[0].arrow
    assert lines[0].arrow.startswith("| <-")
    assert " PSH,ACK 716:895(179) ack 852 " in lines[1].arrow
    assert lines[1].arrow.endswith("-> |")
    assert " RST 852:852(0) " in lines[3].arrow
    assert "ack" not in lines[3].arrow


def test_all_lines_and_the_header_are_equally_wide():
    ladder = ladder_of()
    assert {len(line.arrow) for line in ladder.lines} == {len(ladder.header)}


def test_long_numbers_widen_every_line():
    big = builders.evidence(100, 1, Direction.ORIG, TcpFlag.ACK, 4_000_000_000, 4_100_000_000, 1448, "")
    ladder = ladder_of(evidence=(*builders.race_evidence(), big))
    assert "4000000000:4000001448(1448) ack 4100000000" in ladder.lines[2].arrow
    assert {len(line.arrow) for line in ladder.lines} == {len(ladder.header)}


def test_the_header_names_the_ends_and_shortens_to_roles_where_they_do_not_fit():
    assert ladder_of().header.startswith("proxy 10.1.1.100:45986 ")
    assert ladder_of().header.endswith(" 10.1.1.2:80 upstream")
    long = ladder_of(orig="[2001:db8:1111:2222:3333:4444:5555:6666]:45986").header
    assert long.startswith("proxy ")
    assert "2001" not in long


def test_lines_are_in_capture_order_however_they_come():
    ladder = ladder_of(evidence=builders.race_evidence()[::-1])
    assert [line.frame for line in ladder.lines] == ["98", "106", "109", "116"]


def frames_on_a_page(texts, flags=TcpFlag.ACK, **changes):
    """Return which of the frames that say this stand on a page; the first two are a handshake."""
    opening = [TcpFlag.SYN, TcpFlag.SYN | TcpFlag.ACK]
    frames = tuple(
        builders.evidence(number - 1, number, Direction.ORIG, opening.pop(0) if opening else flags, number, 1, 10, text)
        for number, text in enumerate(texts, 1)
    )
    report = builders.report(builders.finding(occurrences=(builders.occurrence(evidence=frames, **changes),)))
    return [frame.frame for frame in on_a_page(report.findings[0].occurrences[0]).evidence]


def test_a_page_shows_a_handshake_where_there_is_room_for_it_and_nothing_came_before():
    few, many = list("abcdefg"), list("abcdefgh")
    assert frames_on_a_page(few, depth=0) == [1, 2, 3, 4, 5, 6, 7]
    assert frames_on_a_page(few, depth=1) == [3, 4, 5, 6, 7]
    assert frames_on_a_page(many, depth=0) == [3, 4, 5, 6, 7, 8]
    assert frames_on_a_page(many, depth=-1) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert frames_on_a_page(["a", "b"], depth=1) == [1, 2]


def test_a_page_shows_the_first_of_frames_that_say_the_same_where_there_are_many():
    assert frames_on_a_page(["a", "b", "c", "icmp", "icmp", "icmp", "d", "e", "", "", "f"], depth=0) == [
        3,
        4,
        7,
        8,
        9,
        10,
        11,
    ]
    assert frames_on_a_page(["a", "b", "c", "icmp", "icmp"], depth=0) == [1, 2, 3, 4, 5]


def test_a_frame_of_another_file_says_so():
    files = [
        builders.capture_file(path="a.pcap", n_frames=108),
        builders.capture_file(path="b.pcap", first_frame=108, n_frames=99),
    ]
    base = builders.analysis()
    analysis = dataclasses.replace(base, captures=(dataclasses.replace(base.captures[0], files=files),))
    report = build_report(analysis, [builders.finding()], [], version="0")
    texts = [line.text for line in build_ladder(report.findings[0].occurrences[0]).lines]
    assert ["(in b.pcap)" in text for text in texts] == [False, False, True, True]
