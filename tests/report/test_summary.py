"""What a report says and how briefly: durations in four digits, settings and paragraphs told apart."""

import json
from collections import Counter
from pathlib import Path

import pytest

from pcapdiag.report.remedy import Block, split_blocks
from pcapdiag.report.summary import brief


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (3_877_202_123, "3.877 s"),
        (3_900_000_000, "3.900 s"),
        (65_004_999_999, "65.00 s"),
        (120_141_724_000, "120.1 s"),
        (7_200_000_000_000, "7200 s"),
        (86_400_000_000_000, "86400 s"),
        (160_234_000, "160.2 ms"),
        (999_999_999, "1.000 s"),
        (58_000, "58.00 us"),
        (1_000, "1.000 us"),
        (999, "999 ns"),
        (7, "7 ns"),
        (0, "0 s"),
    ],
)
def test_a_duration_has_four_digits(ns, text):
    assert brief(ns) == text


def test_indented_lines_are_settings_and_blank_lines_end_paragraphs():
    text = "One\nline.\n\nTwo:\n    upstream be {\n        keepalive_timeout 3s;\n    }\nThree.\n"
    assert split_blocks(text) == (
        Block(("One", "line."), is_code=False),
        Block(("Two:",), is_code=False),
        Block(("upstream be {", "    keepalive_timeout 3s;", "}"), is_code=True),
        Block(("Three.",), is_code=False),
    )


def test_no_text_has_no_blocks():
    assert split_blocks("\n \n") == ()


def test_the_verdict_says_how_many_failures_its_causes_leave_out(cli):
    case = Path(__file__).resolve().parents[2] / "captures" / "connect_refused_and_timeout" / "proxy.pcap"
    whole = json.loads(cli("analyze", case, "--format", "json").stdout)
    causes = Counter()
    for finding in whole["findings"]:
        causes[finding["code"]] += finding["failures"]
    (shown, n_shown), (_, left) = causes.most_common(2)
    assert n_shown + left == whole["totals"]["unanswered"], "the case has two causes"
    text = cli("analyze", case, "--select", shown, "--width", "200").stdout.splitlines()[0]
    assert text.endswith(f"for {left} no cause is shown.")
    assert "no cause is shown" not in cli("analyze", case, "--width", "200").stdout
