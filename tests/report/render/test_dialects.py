"""Tickets: every dialect within its size, the verdict and the remedy always there, and no text that becomes markup."""

import dataclasses
import html
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pcapdiag.base.errors import UsageError
from pcapdiag.base.findings import Change, Confidence
from pcapdiag.privacy.escape import visible
from pcapdiag.report.render.dialects import DIALECTS, MIN_LIMIT, WHOLE, render_ticket
from pcapdiag.report.render.document import Bullets, Code, Details, Heading, Image, Labelled, Paragraph, TableBlock
from pcapdiag.report.render.html import render_html
from pcapdiag.report.render.jira import render_adf, render_wiki, wiki_text
from pcapdiag.report.render.markdown import prose, render_blocks
from pcapdiag.report.render.slack import mrkdwn_text, strong
from pcapdiag.report.summary import Grid, told_once
from tests.report import builders

pytestmark = pytest.mark.compiled_only  # no kernel runs here

ATTACKS = (
    "{code}x{code}",
    "{noformat}x{noformat}",
    "{color:red}x{color} {html}<script>{html} {panel}",
    "a|b||c",
    "*bold* _it_ -del- +ins+ ^sup^ ~sub~ ??cite??",
    "[x|javascript:alert(1)] [~admin] [^file] !image.png!",
    "h1. heading",
    "bq. quote",
    "# one",
    "---- and -- and ---",
    "SEC-12 UTF-8",
    ":) ;) (x) (!) (/) (on)",
    "http://evil.example www.evil.example mailto:a@b.example",
    "<!channel> <!here> <@U123> <#C1> <http://evil.example|ok> @here @channel @everyone @group",
    "`code` ```block``` ~strike~ :smile: :100:",
    "&lt;!channel&gt; &#123;code&#125; &bsol;",
    "a\\b \\\\ c\\{d",
    "\u202ereversed\u2066 \u200bhidden \x1b[31mred\x07 \x9b1m",
    "line\nnext\r\nthird\u2028fourth",
    "/close\n/assign @root",
    "#1 !2 $3 %4 &5 ~6 GH-7 group/project#8",
    "--- \ntitle: x\n---",
)
TEXT = st.sampled_from(ATTACKS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SIGNS = st.text("{}[]|*_-+^~?!#@%()<>&;:/.\\`ahtpw1B \n", max_size=40)


def report_of(count, *, n_findings=1, target="/api/v1/orders"):
    occurrences = (
        builders.occurrence(target=target),
        *(
            builders.occurrence(request_frame=200 + n, request_ts_ns=builders.T0 + n * builders.S, evidence=())
            for n in range(1, count)
        ),
    )
    findings = [
        builders.finding(
            occurrences=occurrences, subject=f"10.1.1.{n}:80", message=f"Message {n}.", code=f"PD{101 + n}"
        )
        for n in range(n_findings)
    ]
    return builders.report(*findings)


# --- sizes


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("limit", [MIN_LIMIT, 2999, 6000, 20_000, None])
@pytest.mark.parametrize("make", [builders.race_report, builders.hostile_report, lambda: report_of(300, n_findings=12)])
def test_no_ticket_is_larger_than_its_system_takes(dialect, limit, make):
    text = render_ticket(make(), dialect, limit=limit)
    assert len(text.encode()) <= (limit or DIALECTS[dialect].limit)
    assert text.endswith("\n")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_verdict_and_the_remedy_stay_whatever_is_cut(dialect):
    text = render_ticket(report_of(500, n_findings=9), dialect, limit=2500)
    assert "13 of 36 requests got no answer" in text
    assert "keepalive_timeout 3s;" in text


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "slack"])
def test_what_is_cut_is_counted_and_the_whole_has_a_place(dialect):
    text = render_ticket(report_of(60), dialect, limit=2800, whole="incident.zip")
    assert re.search(r"Left out here, to stay within 2,800 characters: \d+ occurrences?\b", text)
    assert "The whole report: incident.zip." in text


def test_occurrences_go_before_anything_else_and_from_the_end():
    whole, cut = (render_ticket(report_of(60), "github", limit=limit) for limit in (65_536, 7000))
    frames = re.findall(r"^\| `(\d+)`", whole, re.MULTILINE)
    kept = re.findall(r"^\| `(\d+)`", cut, re.MULTILINE)
    assert 0 < len(kept) < len(frames)
    assert kept == frames[: len(kept)]
    assert "| ----- PSH,ACK" in cut, "the ladder"
    assert "<summary>Upstreams</summary>" in cut
    assert f"{len(frames) - len(kept)} occurrences" in cut


def test_findings_go_last_and_the_first_one_never():
    text = render_ticket(report_of(3, n_findings=12), "jira", limit=2000)
    assert "h2. PD101 idle\\-close\\-race" in text or "h2. PD101 idle-close-race" in text
    assert re.search(r"\d+ findings?\b", text)


def test_what_fits_is_not_cut():
    text = render_ticket(report_of(60), "gitlab")
    assert len(re.findall(r"^\| `\d+`", text, re.MULTILINE)) == 59
    assert "Left out" not in text


def test_an_unknown_dialect_and_a_hopeless_limit_are_refused():
    with pytest.raises(UsageError, match="there are github, gitlab, jira, adf, slack"):
        render_ticket(builders.race_report(), "teams")
    with pytest.raises(UsageError, match="at least 2000"):
        render_ticket(builders.race_report(), "jira", limit=1999)


def test_the_reader_is_told_where_the_whole_is():
    assert WHOLE in render_ticket(builders.race_report(), "slack")
    assert "`incident.zip`" in render_ticket(builders.race_report(), "slack", whole="incident.zip")


# --- Jira's wiki markup, read as its renderer reads it: escapes first, then everything that is markup.

_ESCAPED = re.compile(r"(?<!\\)\\([-#*_+?^~|%{}\[\]()!@])")
_MARKUP = {
    "macro": r"\{[^\s{}]",
    "link": r"\[[^\]\n]+\]",
    "image": r"!\S[^!\n]*!",
    "table": r"\|",
    "phrase": r"(?<![\w\\])([*_+^~-])(?=\S).*?(?<=\S)\1(?!\w)",
    "citation": r"\?\?",
    "dash": r"(?<!\w)-{2,}(?!\w)",
    "line break": r"\\\\",
    "heading": r"^\s*h[1-6]\.",
    "quotation": r"^\s*bq\.",
    "list": r"^\s*[#*-]+\s",
    "address": r"(?i)\b(?:https?|ftps?|file|irc|news)://|\bwww\.\w|\bmailto:",
    "issue": r"\b[A-Z][A-Z0-9_]+-\d",
    "smiley": r"[:;]-?[()DP](?!\w)|\((?:[!x/yni?*+-]|on|off)\)",
}


def markup_in(text):
    """Return the names of what Jira would make of `text`."""
    seen = _ESCAPED.sub("\N{BULLET}", text)
    return {name for name, pattern in _MARKUP.items() if re.search(pattern, seen)}


def shown_by_jira(text):
    entities = _ESCAPED.sub(lambda m: f"&#{ord(m[1])};", text)
    return re.sub(r"&#?\w+;", lambda m: html.unescape(m[0]), entities)


def test_the_reading_of_markup_finds_markup():
    assert markup_in("{code}|[a|b] !i! *b* ??c?? --- http://x SEC-1 (x)") == {
        *("macro", "table", "link", "image", "phrase", "citation", "dash", "address", "issue", "smiley")
    }


@given(TEXT | SIGNS)
def test_text_in_jira_is_shown_as_it_is_and_is_no_markup(text):
    wiki = wiki_text(text)
    assert markup_in(wiki) == set()
    assert shown_by_jira(wiki) == visible(text)


@given(st.lists(TEXT | SIGNS, min_size=1, max_size=4))
def test_no_line_leaves_a_block_of_jira(lines):
    text = render_wiki([Code(tuple(lines))])
    assert text.lower().count("{noformat}") == 2
    assert text.startswith("{noformat}\n")
    assert text.endswith("\n{noformat}\n")


@given(TEXT | SIGNS)
def test_a_cell_of_jira_stays_one_cell(text):
    row = render_wiki([TableBlock(Grid(("a", "b"), ((text, "x"),)))]).splitlines()[1]
    assert len(re.split(r"(?<!\\)\|", row)) == 4


# --- ADF: text is a value


def texts_of(node):
    if node["type"] == "text":
        return [node["text"]]
    return [text for child in node["content"] for text in texts_of(child)]


def nodes_of(node):
    return {node["type"]} | {kind for child in node.get("content", []) for kind in nodes_of(child)}


BLOCKS = (
    Heading("{}", 2),
    Paragraph("{}", "strong"),
    Paragraph("{}", "emphasis"),
    Paragraph("{}"),
    Labelled("{}", "{}"),
    Code(("{}", "{}")),
    TableBlock(Grid(("{}",), (("{}",),))),
    Bullets(("{}",)),
    Image("a.png", "{}"),
    Details("{}", (Paragraph("{}"),)),
)


def filled(block, text):
    """Return a block with `text` in place of every {}."""

    def fill(value):
        if isinstance(value, str):
            return value.replace("{}", text)
        if isinstance(value, tuple):
            return tuple(map(fill, value))
        return filled(value, text) if dataclasses.is_dataclass(value) else value

    return type(block)(*(fill(getattr(block, f.name)) for f in dataclasses.fields(block)))


@given(TEXT | SIGNS)
def test_adf_holds_text_and_nothing_that_is_not_ours(text):
    raw = render_adf([filled(block, text) for block in BLOCKS])
    assert all(" " <= char <= "~" or char == "\n" for char in raw)
    document = json.loads(raw)
    assert nodes_of(document) == nodes_of(json.loads(render_adf(BLOCKS)))
    assert all(texts_of(document))
    assert all(char == "\n" or char.isprintable() for text in texts_of(document) for char in text)


# --- Slack


def outside_of_code(text):
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


@given(TEXT | SIGNS)
def test_text_in_slack_is_no_markup(text):
    shown = mrkdwn_text(text)
    assert shown.isprintable()
    assert shown.count("`") % 2 == 0
    assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", shown)
    rest = outside_of_code(shown)
    assert not re.search(r"[*~`@#&]|://|:[a-z+_-]+:|(?<!\w)_|_(?!\w)", rest)
    assert not re.search(r"@(here|channel|everyone|group)", shown)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_remedy_stays_in_its_block_of_slack(attack):
    line = visible(attack)
    found = builders.finding(remedy=f"{line}\n\n    {line}", title=line, message=line)
    text = render_ticket(builders.report(found), "slack")
    assert text.count("```") == 4, "the settings and the ladder"
    assert "<" not in text
    assert not re.search(r"@(here|channel|everyone)", text)


# --- Markdown, beyond what test_markdown asks


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_attack_leaves_a_character_that_cannot_be_seen(attack, dialect):
    found = builders.finding(
        occurrences=(builders.occurrence(target=attack, method=attack, host=attack),),
        title=attack,
        message=attack,
        subject=attack,
        refuted_by=attack,
        remedy=f"{attack}\n\n    {attack}",
    )
    text = render_ticket(builders.report(found, redact=False), dialect, whole=attack)
    assert all(char == "\n" or char.isprintable() for char in text)


@given(TEXT | SIGNS)
@example("#`0`0")
def test_text_in_markdown_is_no_mention_no_reference_no_link_and_no_emoji(text):
    shown = prose(text)
    # A sign stands for the code, so that what is left and right of it does not meet.
    rest = re.sub(r"(?<!\\)(`+)(?!`).*?(?<!`)\1(?!`)", "`", shown).replace("&lt;", " ")
    assert not re.search(r"(?<!\\)[@#!$%&~^](?=\w)", rest), "GitLab takes it for a reference"
    assert not re.search(r"[@#]\w|://\S|\bwww\.\w|(?i:\bGH-)\d", rest), "GitHub makes a link of it"
    assert not re.search(r":(?:[a-z_+-][a-z0-9_+-]*|100|1234):", rest), "an emoji"
    assert "<" not in rest.replace("<!-- -->", "")


@given(TEXT | SIGNS)
def test_no_line_of_markdown_is_a_command_of_gitlab(text):
    lines = render_blocks([filled(block, text) for block in BLOCKS]).splitlines()
    assert not [line for line in lines if re.match(r"\s{0,3}/[a-z]", line) and not line.startswith(" /")]


def test_a_chart_is_shown_with_its_words():
    image = Image("idle-gaps.png", "Idle gaps [x](y) |z|")
    text = render_ticket(builders.race_report(), "github", images=[image])
    assert "![Idle gaps \\[x\\](y) \\|z\\|](idle-gaps.png)" in text


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("sign", ["@a ", "\\", "\x00", "*", "<", "\N{GRINNING FACE}", "SEC-1 ", "`"])
def test_signs_that_grow_when_they_are_escaped_fit_too(dialect, sign):
    text = sign * 1500
    found = builders.finding(
        message=text, title=text, subject=text, refuted_by=text, remedy=f"{text}\n\n    {text}", occurrences=()
    )
    report = builders.report(found, n_unanswered=0, upstreams=(builders.upstream(server_field=text),))
    for limit in (MIN_LIMIT, 5000, None):
        shown = render_ticket(report, dialect, limit=limit, whole="incident.zip")
        assert len(shown.encode()) <= (limit or DIALECTS[dialect].limit)
        assert "incident.zip" in shown


def test_an_empty_heading_of_a_column_keeps_its_column():
    assert render_wiki([TableBlock(Grid(("", "a"), (("", "x"),)))]) == "|| ||a||\n| |x|\n"


def test_the_remedy_of_a_chat_is_for_the_cause_of_most_failures():
    rare = builders.finding(code="PD101", occurrences=(), remedy="Rare.")
    common = builders.finding(code="PD203", remedy="Common.")
    text = render_ticket(builders.report(rare, common), "slack")
    assert "Remedy for PD203:\nCommon.\n" in text
    assert "Rare." not in text


def test_above_the_fold_stand_verdict_impact_one_picture_the_patch_and_one_ladder():
    images = [Image("timeline.png", "Timeline"), Image("idle-gaps.png", "Idle gaps")]
    change = Change(
        proxy="nginx",
        file="/etc/nginx/nginx.conf",
        line=12,
        where="upstream be",
        setting="keepalive_timeout",
        old="300s",
        new="3s",
        old_text="keepalive_timeout 300s;",
        text="keepalive_timeout 3s;",
        old_is_assumed=False,
        is_new=False,
    )
    report = builders.race_report()
    findings = tuple(dataclasses.replace(f, changes=(change,)) for f in report.findings)
    text = render_ticket(dataclasses.replace(report, findings=findings), "github", images=images)
    above, _, folded = text.partition("<details>")
    assert above.count("![") == 1
    assert "```diff\n /etc/nginx/nginx.conf:12, upstream be" in above
    assert "\n-keepalive_timeout 300s;\n+keepalive_timeout 3s;\n```" in above
    assert above.count("proxy 10.1.1.100:45986") == 1, "one ladder"
    assert "Upstreams" not in above
    assert len(above.splitlines()) < 40
    assert folded.count("keepalive_timeout 3s;") == 0, "the patch is said once"
    assert "![Idle gaps](idle-gaps.png)" in folded
    assert text.count("<details>") == text.count("</details>") > 3


def of_upstreams(n, message="10.1.1.{0}:80 closes idle connections after {0}.05 s: {1}."):
    counts = ("1 request was lost", *(f"{k} requests were lost" for k in range(2, n + 1)))
    return [
        builders.finding(subject=f"10.1.1.{k}:80", message=message.format(k, counts[k - 1]), identifier=f"PD101/{k}")
        for k in range(1, n + 1)
    ]


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name not in {"slack", "adf"}])
def test_a_cause_is_told_once_and_not_again_for_each_upstream(dialect):
    text = render_ticket(builders.report(*of_upstreams(3)), dialect)
    assert text.count("closes idle connections after") == 1
    assert "1.05 s: 1 request was lost. The same at 10.1.1.2:80 (13 times), 10.1.1.3:80 (13 times)" in text


def test_what_differs_in_more_than_numbers_is_told_apart():
    other = builders.finding(subject="10.1.1.9:80", message="10.1.1.9:80 resets idle connections.", identifier="x")
    doubtful = dataclasses.replace(of_upstreams(2)[1], confidence=Confidence.POSSIBLE)
    told = told_once(builders.report(*of_upstreams(1), doubtful, other).findings)
    assert len(told) == 3


def test_code_in_prose_is_code_and_breaks_no_markup():
    remedy = "Set it (in nginx `proxy_pass be`), or `max_fails=0`."
    report = builders.report(builders.finding(remedy=remedy))
    assert "(in nginx `proxy_pass be`), or `max_fails=0`." in render_ticket(report, "github")
    assert "(in nginx `proxy_pass be`), or `max_fails=0`." in render_ticket(report, "slack")
    adf = json.loads(render_ticket(report, "adf"))
    code = [n["text"] for p in adf["content"] for n in p["content"] if {"type": "code"} in n.get("marks", [])]
    assert code[:2] == ["proxy_pass be", "max_fails=0"]
    page = render_html(report, builders.analysis(losses=()))
    assert "(in nginx <code>proxy_pass be</code>), or <code>max_fails=0</code>." in page


def test_in_slack_bold_ends_before_code_and_begins_again_after_it():
    assert strong("Set keepalive_timeout at nginx.conf:12.") == "*Set keepalive_timeout at* `nginx.conf:12`."
    assert strong("a http://x b c") == "*a* `http://x` *b c*"


@given(TEXT | SIGNS)
def test_bold_text_in_slack_holds_no_code(text):
    for run in re.findall(r"(?<!\S)\*[^*]*\*(?!\S)", strong(text)):
        assert "`" not in run


def test_a_chat_has_the_ladder_of_one_request_where_there_is_room():
    report = builders.race_report()
    assert "PSH,ACK" in render_ticket(report, "slack")
    small = render_ticket(report, "slack", limit=MIN_LIMIT)
    assert len(small.encode()) <= MIN_LIMIT


def test_the_finding_that_stays_is_the_cause_that_the_verdict_names():
    long = "A sentence that says a lot about a rare thing. " * 60
    rare = builders.finding(code="PD101", occurrences=(), remedy=long, message=long)
    common = builders.finding(code="PD203", remedy="Common.")
    report = builders.report(*(dataclasses.replace(rare, code=f"PD10{n}") for n in range(1, 7)), common)
    text = render_ticket(report, "github", limit=4000)
    assert "PD203" in text.splitlines()[0]
    assert "Common." in text
    assert re.search(r"\d findings", text)
