"""Files for node_exporter: as Prometheus reads them, and never another's."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pcapdiag.base.errors import UsageError
from pcapdiag.ticket.notify.textfile import gauge, write_gauges


def read(text):
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def test_a_gauge_without_labels_is_one_line():
    text = gauge("frames", "Frames seen.", [({}, 3.0)])
    assert text == "# HELP pcapdiag_frames Frames seen.\n# TYPE pcapdiag_frames gauge\npcapdiag_frames 3.0\n"


@given(st.text(max_size=150), st.floats(allow_nan=False))
def test_whatever_a_label_holds_prometheus_reads_one_sample_of_one_line(text, value):
    [(name, labels, read_value)] = read(gauge("lost", "Lost.", [({"upstream": text}, value)]))
    assert (name, read_value, list(labels)) == ("pcapdiag_lost", value, ["upstream"])


def test_quotes_and_backslashes_arrive_as_they_were():
    [(_, labels, _)] = read(gauge("lost", "Lost.", [({"upstream": 'a"b\\c'}, 1)]))
    assert labels == {"upstream": 'a"b\\c'}


def test_the_file_is_whole_ends_and_is_written_anew(tmp_path):
    tmp_path.chmod(0o755)
    for value in (1, 2):
        write_gauges(tmp_path / "x.prom", [gauge("a", "A.", [({}, value)]), gauge("b", "B.", [({}, value)])])
        text = (tmp_path / "x.prom").read_text()
        assert text.endswith("# EOF\n")
        assert read(text) == [("pcapdiag_a", {}, value), ("pcapdiag_b", {}, value)]
    assert stat.S_IMODE((tmp_path / "x.prom").stat().st_mode) == 0o644


def test_what_node_exporter_would_not_read_or_another_has_written_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"end in \.prom"):
        write_gauges(tmp_path / "x.txt", [])
    (tmp_path / "x.prom").write_text("# HELP node_uptime\n")
    with pytest.raises(UsageError):
        write_gauges(tmp_path / "x.prom", [])
    assert (tmp_path / "x.prom").read_text() == "# HELP node_uptime\n"
