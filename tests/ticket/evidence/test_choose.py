"""Codes and frames as people write them."""

import pytest

from pcapdiag.base.errors import UsageError
from pcapdiag.engine.capture.batch import Capture
from pcapdiag.ticket.evidence.choose import choose_findings, choose_frames
from tests.report import builders

FINDINGS = tuple(builders.finding(code=code) for code in ("PD101", "PD102", "PD301"))


def codes(*wanted, is_all=True):
    return [finding.code for finding in choose_findings(FINDINGS, wanted, is_all=is_all)]


def captures(*names, n_frames=10):
    files = [
        builders.capture_file(path=name, n_frames=n_frames, first_frame=number * n_frames)
        for number, name in enumerate(names)
    ]
    return [Capture(files, [])]


def test_a_code_is_written_whole_or_by_its_beginning_in_either_case():
    assert codes("PD101") == ["PD101"]
    assert codes("pd1") == ["PD101", "PD102"]
    assert codes("PD3", "pd102") == ["PD102", "PD301"]


def test_no_code_means_all_or_none_as_the_caller_has_it():
    assert codes() == ["PD101", "PD102", "PD301"]
    assert codes(is_all=False) == []


def test_a_code_of_which_nothing_was_found_is_refused_with_what_was():
    with pytest.raises(UsageError, match="PD2 was not found in this capture; found are: PD101, PD102, PD301"):
        codes("PD101", "PD2")


def test_a_number_is_wiresharks_and_names_its_file_where_there_are_several():
    assert choose_frames(captures("a.pcap"), ["1", "10"]) == {(0, 0), (0, 9)}
    assert choose_frames(captures("/c/a.pcap", "/c/b.pcap"), ["b.pcap:3", "/c/a.pcap:1"]) == {(0, 12), (0, 0)}


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        ("0", "has 10 frames"),
        ("11", "has 10 frames"),
        ("x", "is no frame"),
        ("-1", "is no frame"),
        ("1" * 19, "is no frame"),
        ("c.pcap:1", "no file of that name"),
    ],
)
def test_what_is_no_frame_is_refused(frame, says):
    with pytest.raises(UsageError, match=says):
        choose_frames(captures("a.pcap"), [frame])


def test_a_number_alone_is_refused_where_several_files_could_be_meant():
    with pytest.raises(UsageError, match="several files: write FILE:NUMBER"):
        choose_frames(captures("a.pcap", "b.pcap"), ["1"])
