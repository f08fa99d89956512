"""Jira: attachment and comment arrive once, whatever happens on the way."""

import base64
import hashlib
import re

import pytest

from pcapdiag.base.errors import AttachError
from pcapdiag.ticket.attach.plan import requests_of
from pcapdiag.ticket.attach.targets import parse_target
from tests.ticket.attach.servers import TOKEN, USER, Jira, serving

pytestmark = pytest.mark.compiled_only

CLOUD_AUTHORIZATION = "Basic " + base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()


@pytest.fixture(params=["jira", "jira-cloud"])
def kind(request):
    return request.param


@pytest.fixture
def jira(kind):
    server = Jira("3" if kind == "jira-cloud" else "2")
    if kind == "jira-cloud":
        server.authorization = CLOUD_AUTHORIZATION
    with serving(server):
        yield server


@pytest.fixture
def attach(jira, operator, kind):
    return lambda: operator.attach(f"{jira.url}/browse/OPS-12", kind)


def assert_attached_once(jira, bundle):
    assert [a["filename"] for a in jira.attachments] == [bundle.name]
    assert hashlib.sha256(jira.attachments[0]["content"]).hexdigest() == bundle.sha256
    assert len(jira.comments) == 1


def text_of(body):
    """Return a comment as text, for wiki markup and documents alike."""
    if isinstance(body, str):
        return body
    if body.get("type") == "text":
        return body["text"]
    return "".join(text_of(node) for node in body.get("content", ())) + "\n"


def test_attachment_and_comment_arrive_as_they_are(jira, attach, bundle):
    place = attach()
    assert_attached_once(jira, bundle)
    text = text_of(jira.comments[0]["body"])
    assert "the upstream closed" in text
    assert bundle.name in text
    assert bundle.sha256 in text
    assert text.rstrip().endswith(f"\npcapdiag report {bundle.manifest.report}")
    assert place == f"{jira.url}/browse/OPS-12?focusedCommentId=900"


def test_the_requests_are_those_of_the_dry_run(jira, attach, kind):
    attach()
    planned = requests_of(parse_target(f"{jira.url}/browse/OPS-12", kind), "")
    assert jira.lines() == [line.replace(jira.url, "") for line in planned]


def test_the_attachment_is_sent_as_the_api_wants_it(jira, attach, bundle):
    attach()
    (sent,) = [r for r in jira.requests if r.path.endswith("/attachments")]
    assert sent.headers["x-atlassian-token"] == "no-check"
    assert sent.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert list(sent.form()) == ["file"]
    assert sent.form()["file"][0] == bundle.name


def test_credentials_go_as_the_deployment_wants_them(jira, attach, kind):
    attach()
    expected = CLOUD_AUTHORIZATION if kind == "jira-cloud" else f"Bearer {TOKEN}"
    assert {r.headers["authorization"] for r in jira.requests} == {expected}
    assert not any(TOKEN in r.path or TOKEN.encode() in r.body for r in jira.requests)


def test_a_second_run_changes_nothing(jira, attach, bundle):
    first = attach()
    n_requests = len(jira.requests)
    assert attach() == first
    assert_attached_once(jira, bundle)
    assert {r.method for r in jira.requests[n_requests:]} == {"GET"}


def test_our_comment_is_found_behind_many_others(jira, attach, bundle):
    jira.comments += [{"id": str(n), "body": "me too"} for n in range(130)]
    attach()
    attach()
    assert len(jira.comments) == 131
    assert len(jira.attachments) == 1
    assert bundle.name in text_of(jira.comments[-1]["body"])


def test_a_comment_that_quotes_ours_is_not_ours(jira, attach, bundle, kind):
    mark = f"pcapdiag report {bundle.manifest.report}"
    quote = f"> {mark}\n\nseen this?"
    paragraphs = [{"type": "paragraph", "content": [{"type": "text", "text": t}]} for t in (mark, "seen this?")]
    body = {"type": "doc", "version": 1, "content": paragraphs} if kind == "jira-cloud" else quote
    jira.comments.append({"id": "1", "body": body})
    attach()
    assert len(jira.comments) == 2


def test_a_missing_attachment_is_sent_again_without_a_second_comment(jira, attach, bundle):
    attach()
    jira.attachments.clear()
    attach()
    assert_attached_once(jira, bundle)


def test_half_an_attachment_is_replaced(jira, attach, bundle):
    jira.attachments.append({"id": "5", "filename": bundle.name, "size": 17, "content": b"x" * 17})
    attach()
    assert_attached_once(jira, bundle)


@pytest.mark.parametrize("action", ["cut", "cut after", "half", 500, 502, 503, 504, 429])
@pytest.mark.parametrize("line", [r"POST .*/attachments", r"POST .*/comment", r"GET .*/comment", r"GET .*/OPS-12$"])
def test_a_failure_that_passes_is_survived_without_a_second_anything(jira, attach, bundle, operator, line, action):
    jira.fail(line, action, times=2)
    attach()
    assert_attached_once(jira, bundle)
    assert len(operator.waits) in {1, 2}


def test_the_server_says_how_long_to_wait(jira, attach, operator):
    jira.fail("POST .*/comment", 429, headers={"Retry-After": "7"})
    jira.fail("POST .*/comment", 503, headers={"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"})
    attach()
    assert operator.waits == [7.0, 0.0]


def test_a_server_that_wants_an_hour_is_left_alone(jira, attach, operator):
    jira.fail("GET", 429, headers={"Retry-After": "3600"})
    with pytest.raises(AttachError, match="asks to wait 3600 s"):
        attach()
    assert operator.waits == []
    assert len(jira.requests) == 1


def test_a_server_that_stays_broken_is_asked_a_few_times(jira, attach):
    jira.fail(".", 503, times=100)
    with pytest.raises(AttachError, match="cannot now"):
        attach()
    assert len(jira.requests) == 4


@pytest.mark.parametrize(("status", "words"), [(403, "do not permit"), (413, "refuses|larger"), (400, "refuses")])
def test_a_refused_comment_takes_the_attachment_back(jira, attach, bundle, status, words):
    jira.fail("POST .*/comment", status, body={"errorMessages": ["no"], "errors": {}})
    with pytest.raises(AttachError, match=words) as caught:
        attach()
    assert "was removed again" in str(caught.value)
    assert (jira.attachments, jira.comments) == ([], [])
    attach()
    assert_attached_once(jira, bundle)


def test_an_attachment_that_cannot_be_taken_back_is_named_and_used_next_time(jira, attach, bundle):
    jira.fail("POST .*/comment", 403)
    jira.fail("DELETE", 403)
    with pytest.raises(AttachError, match="could not be removed again"):
        attach()
    attach()
    assert_attached_once(jira, bundle)


def test_an_attachment_of_an_earlier_run_is_not_taken_back(jira, attach, bundle):
    attach()
    jira.comments.clear()
    jira.fail("POST .*/comment", 403)
    with pytest.raises(AttachError):
        attach()
    assert [a["filename"] for a in jira.attachments] == [bundle.name]


def test_a_comment_of_unknown_fate_leaves_the_attachment_that_it_names(jira, attach, bundle):
    jira.fail("POST .*/comment", "cut after")
    jira.fail("GET .*/comment", "cut", times=0)

    def broken_from_now_on():
        jira.fail(".", "cut", times=3)

    original = jira.comment

    def comment(request):
        broken_from_now_on()
        return original(request)

    jira.comment = comment
    with pytest.raises(AttachError, match="stays there, and is used"):
        attach()
    jira.comment = original
    jira.faults.clear()
    attach()
    assert_attached_once(jira, bundle)


def test_too_large_a_bundle_is_said_to_be(jira, attach):
    jira.fail("POST .*/attachments", 413)
    with pytest.raises(AttachError, match="larger than"):
        attach()
    assert jira.comments == []


def test_an_issue_that_is_not_there_is_said_to_be(jira, operator, kind):
    with pytest.raises(AttachError, match=r"no such ticket .*Issue does not exist"):
        operator.attach(f"{jira.url}/browse/OPS-13", kind)
    assert all(r.method == "GET" for r in jira.requests)


def test_a_wrong_token_is_named_by_its_source_alone(jira, attach):
    jira.authorization = "other"
    with pytest.raises(AttachError, match=r"does not accept the credentials of PCAPDIAG_JIRA_TOKEN") as caught:
        attach()
    assert TOKEN not in str(caught.value)


def test_a_server_that_repeats_the_token_does_not_make_us_say_it(jira, attach):
    jira.fail("GET", 400, body={"errorMessages": [f"bad header: Bearer {TOKEN}"]})
    with pytest.raises(AttachError, match=r"bad header: Bearer \*\*\*") as caught:
        attach()
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("body", [b"<html>login</html>", b"[]", b"{}", b"null", b'{"comments": 5}', b"\xff\xfe"])
def test_an_answer_that_is_not_jiras_is_one_sentence(jira, attach, body):
    jira.fail("GET", 200, body=body)
    with pytest.raises(AttachError, match="does not answer as its API does"):
        attach()


def test_a_context_path_belongs_to_the_server(operator, bundle):
    jira = Jira("2")
    original = jira.answer

    def answer(request):
        assert request.path.startswith("/tools/jira/")
        return original(type(request)(**{**vars(request), "path": re.sub("^/tools/jira", "", request.path)}))

    jira.answer = answer
    with serving(jira):
        operator.attach(f"{jira.url}/tools/jira/browse/OPS-12")
    assert_attached_once(jira, bundle)
