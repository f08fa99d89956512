"""Comments: what lies in the bundle, the file, the mark; within the size that each system takes."""

import json

import pytest

from pcapdiag.report.render.dialects import DIALECTS
from pcapdiag.ticket.attach.archive import open_bundle
from pcapdiag.ticket.attach.comment import compose, has_mark, mark_of
from pcapdiag.ticket.attach.targets import Kind
from pcapdiag.ticket.bundle import text_files, write_bundle
from tests.report import builders

pytestmark = pytest.mark.compiled_only

REPORT = "0123456789abcdef"
LIMITS = {
    Kind.JIRA: DIALECTS["jira"].limit,
    Kind.JIRA_CLOUD: DIALECTS["adf"].limit,
    Kind.GITHUB: DIALECTS["github"].limit,
    Kind.GITLAB: DIALECTS["gitlab"].limit,
    Kind.WEBHOOK: DIALECTS["github"].limit,
}


@pytest.fixture(scope="module")
def large_report():
    many = tuple(builders.occurrence(target=f"/{n}/" + "x" * 400, depth=n) for n in range(300))
    return builders.report(*(builders.finding(code=c, occurrences=many) for c in ("PD101", "PD102", "PD201")))


@pytest.fixture(params=["large", "hostile"])
def bundle(request, tmp_path, large_report):
    report = large_report if request.param == "large" else builders.hostile_report()
    path = tmp_path / "b.zip"
    with path.open("wb") as file:
        write_bundle(file, report, [*text_files(report, {})])
    with open_bundle(str(path)) as bundle:
        yield bundle


@pytest.mark.parametrize("kind", LIMITS)
def test_a_comment_is_within_the_size_that_its_system_takes(bundle, kind):
    link = f"https://github.example.com/{'o' * 39}/{'r' * 100}/releases/download/{'t' * 100}/{bundle.name}"
    text = compose(kind, bundle, link)
    assert len(text.encode()) <= LIMITS[kind]
    assert bundle.name in text
    assert bundle.sha256 in text


@pytest.mark.parametrize("kind", LIMITS)
def test_our_comment_is_known_by_its_mark(bundle, kind):
    text = compose(kind, bundle, "")
    body = json.loads(text) if kind is Kind.JIRA_CLOUD else text
    assert has_mark(kind, bundle.manifest.report, body)
    assert not has_mark(kind, REPORT, body)
    if isinstance(body, str):
        assert has_mark(kind, bundle.manifest.report, body.replace("\n", "\r\n") + "\r\n ")


@pytest.mark.parametrize("kind", LIMITS)
@pytest.mark.parametrize(
    "body",
    [None, 5, [], "", {}, {"content": None}, {"content": []}, {"content": [5]}, {"content": [{"type": "paragraph"}]}],
)
def test_any_body_of_a_server_is_looked_at_without_an_error(kind, body):
    assert not has_mark(kind, REPORT, body)


@pytest.mark.parametrize("name", ["ticket/github.md", "ticket/gitlab.md", "ticket/jira.txt"])
def test_a_target_that_pretends_to_be_the_mark_is_no_line_of_its_own(name):
    forged = {mark_of(kind, REPORT) for kind in Kind}
    hostile = "\n\n".join(["/", *sorted(forged), ""])
    report = builders.report(builders.finding(occurrences=(builders.occurrence(target=hostile),)))
    (text,) = [file.content.decode() for file in text_files(report, {}) if file.name == name]
    assert not forged & {line.strip() for line in text.splitlines()}
