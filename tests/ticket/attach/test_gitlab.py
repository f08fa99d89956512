"""GitLab: one upload and one note that points to it."""

import pytest

from pcapdiag.base.errors import AttachError
from pcapdiag.ticket.attach.plan import requests_of
from pcapdiag.ticket.attach.targets import parse_target
from tests.ticket.attach.servers import TOKEN, GitLab, Server, serving

pytestmark = pytest.mark.compiled_only


@pytest.fixture
def gitlab():
    with serving(GitLab()) as server:
        yield server


@pytest.fixture(params=["issues", "merge_requests"])
def url(gitlab, request):
    return f"{gitlab.url}/acme/ops/proxy/-/{request.param}/7"


@pytest.fixture
def attach(operator, url):
    return lambda: operator.attach(url)


def assert_attached_once(gitlab, bundle):
    with bundle.reopened() as file:
        content = file.read()
    assert gitlab.uploads == {f"{gitlab.KEY}/{bundle.name}": content}
    assert len(gitlab.notes) == 1


def test_upload_and_note_arrive_as_they_are(gitlab, attach, bundle, url):
    place = attach()
    assert_attached_once(gitlab, bundle)
    body = gitlab.notes[0]["body"]
    assert body.startswith(bundle.ticket("ticket/gitlab.md").rstrip())
    assert f"[{bundle.name}](/uploads/{gitlab.KEY}/{bundle.name})" in body
    assert body.endswith(f"\n\n<!-- pcapdiag report {bundle.manifest.report} -->")
    assert place == f"{url}#note_500"


def test_the_requests_are_those_of_the_dry_run(gitlab, attach, url):
    attach()
    planned = requests_of(parse_target(url), "")
    assert gitlab.lines() == [line.replace(gitlab.url, "").replace("%2F", "/") for line in planned]


def test_the_token_goes_in_its_field_and_nowhere_else(gitlab, attach):
    attach()
    assert {r.headers["private-token"] for r in gitlab.requests} == {TOKEN}
    assert not any(TOKEN.encode() in r.body or TOKEN in r.path for r in gitlab.requests)
    assert not any("authorization" in r.headers for r in gitlab.requests)


def test_a_second_run_changes_nothing(gitlab, attach, bundle):
    first = attach()
    n_requests = len(gitlab.requests)
    assert attach() == first
    assert_attached_once(gitlab, bundle)
    assert {r.method for r in gitlab.requests[n_requests:]} == {"GET"}


def test_our_note_is_found_behind_many_others(gitlab, attach):
    gitlab.notes += [{"id": n, "body": "me too"} for n in range(250)]
    attach()
    attach()
    assert len(gitlab.notes) == 251


@pytest.mark.parametrize("action", ["cut", "cut after", "half", 500, 502, 429])
@pytest.mark.parametrize("line", [r"POST .*/uploads", r"POST .*/notes", r"GET .*/notes"])
def test_a_failure_that_passes_is_survived_without_a_second_anything(gitlab, attach, bundle, line, action):
    gitlab.fail(line, action, times=2)
    attach()
    assert_attached_once(gitlab, bundle)


@pytest.mark.parametrize("wait", ["5", "61", "junk", "-3", "9" * 30])
def test_the_library_itself_never_waits(gitlab, attach, operator, wait):
    gitlab.fail("GET", 429, headers={"Retry-After": wait})
    if wait == "61":
        with pytest.raises(AttachError, match="asks to wait 61 s"):
            attach()
    else:
        attach()
        assert operator.waits == [5.0 if wait == "5" else 1.0]


def test_a_refused_note_takes_the_upload_back(gitlab, attach, bundle):
    gitlab.fail("POST .*/notes", 403, body={"message": "403 Forbidden"})
    with pytest.raises(AttachError, match=r"do not permit .*was removed again"):
        attach()
    assert (gitlab.uploads, gitlab.notes) == ({}, [])
    attach()
    assert_attached_once(gitlab, bundle)


def test_an_upload_that_cannot_be_taken_back_is_named(gitlab, attach):
    gitlab.fail("POST .*/notes", 400, body={"message": {"note": ["is too long"]}})
    gitlab.fail("DELETE", 403, body={"message": "403 Forbidden"})
    with pytest.raises(AttachError, match=r"note: .*could not be removed again"):
        attach()


@pytest.mark.parametrize("status", [401, 404, 413])
def test_a_refused_upload_leaves_no_note(gitlab, attach, status):
    gitlab.fail("POST .*/uploads", status, body={"message": "no"})
    with pytest.raises(AttachError, match=str(status)):
        attach()
    assert gitlab.notes == []


@pytest.mark.parametrize("url_given", ["/uploads/../../x", "https://evil.example/x.zip", "javascript:1", 7, None])
def test_an_address_of_the_server_that_is_none_gets_into_no_note(gitlab, attach, url_given):
    gitlab.fail("POST .*/uploads", 201, body={"url": url_given})
    with pytest.raises(AttachError, match="does not answer as its API does"):
        attach()
    assert gitlab.notes == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("line", ["GET", "POST"])
def test_a_redirect_to_another_host_gets_neither_token_nor_bundle(gitlab, attach, status, line):
    with serving(Server()) as thief:
        gitlab.fail(line, status, headers={"Location": f"{thief.url}/api/v4/x"}, times=9)
        with pytest.raises(AttachError, match=r"points to|moved what"):
            attach()
    assert thief.requests == []


def test_a_redirect_on_the_same_host_is_followed_for_reading(gitlab, attach, bundle, url):
    kind = "merge_requests" if "merge" in url else "issues"
    place = f"{gitlab.url}/api/v4/projects/acme%2Fops%2Fproxy/{kind}/7/notes"
    gitlab.fail("GET", 301, headers={"Location": place})
    attach()
    assert_attached_once(gitlab, bundle)
