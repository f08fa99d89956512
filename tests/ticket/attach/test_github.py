"""GitHub: one comment, and the bundle as an asset where a release is named."""

import pytest

from pcapdiag.base.errors import AttachError, UsageError
from pcapdiag.ticket.attach.plan import requests_of
from pcapdiag.ticket.attach.targets import parse_target
from tests.ticket.attach.servers import TOKEN, GitHub, Server, serving

pytestmark = pytest.mark.compiled_only


@pytest.fixture
def github():
    with serving(GitHub()) as server:
        yield server


@pytest.fixture(params=["issues", "pull"])
def url(github, request):
    return f"{github.url}/acme/proxy/{request.param}/7"


@pytest.fixture
def attach(operator, url):
    return lambda release="incidents": operator.attach(url, release=release)


def assert_attached_once(github, bundle):
    with bundle.reopened() as file:
        content = file.read()
    assert [(a["name"], a["content"], a["state"]) for a in github.assets] == [(bundle.name, content, "uploaded")]
    assert len(github.comments) == 1


def test_comment_and_asset_arrive_as_they_are(github, attach, bundle, url):
    place = attach()
    assert_attached_once(github, bundle)
    body = github.comments[0]["body"]
    assert body.startswith(bundle.ticket("ticket/github.md").rstrip())
    assert f"]({github.url}/acme/proxy/releases/download/incidents/{bundle.name})" in body
    assert body.endswith(f"\n\n<!-- pcapdiag report {bundle.manifest.report} -->")
    assert place == f"{url}#issuecomment-3000"


def test_the_requests_are_those_of_the_dry_run(github, attach, url):
    attach()
    planned = requests_of(parse_target(url), "incidents")
    assert github.lines() == [line.replace(github.url, "").replace("/ID/", "/55/") for line in planned]


def test_without_a_release_only_a_comment_is_written(github, attach, bundle, url):
    attach("")
    assert github.assets == []
    assert "with the author: GitHub takes no files in comments" in github.comments[0]["body"]
    assert bundle.sha256 in github.comments[0]["body"]
    assert github.lines() == [line.replace(github.url, "") for line in requests_of(parse_target(url), "")]


def test_the_token_goes_in_its_field_and_nowhere_else(github, attach):
    attach()
    assert {r.headers["authorization"] for r in github.requests} == {f"token {TOKEN}"}
    assert not any(TOKEN.encode() in r.body or TOKEN in r.path for r in github.requests)


def test_a_second_run_changes_nothing(github, attach, bundle):
    first = attach()
    n_requests = len(github.requests)
    assert attach() == first
    assert_attached_once(github, bundle)
    assert {r.method for r in github.requests[n_requests:]} == {"GET"}


def test_our_comment_is_found_behind_many_others(github, attach):
    github.comments += [{"id": n, "body": "me too", "url": "x"} for n in range(250)]
    attach()
    attach()
    assert len(github.comments) == 251


def test_a_comment_without_a_body_is_not_ours(github, attach):
    github.comments.append({"id": 1, "body": None, "url": "x"})
    attach()
    assert len(github.comments) == 2


def test_a_quote_of_our_comment_is_not_ours(github, attach, bundle):
    quote = f"> <!-- pcapdiag report {bundle.manifest.report} -->"
    github.comments += [{"id": 1, "body": quote, "url": "x"}, {"id": 2, "body": quote[2:] + "\n\nSo?", "url": "x"}]
    attach()
    assert len(github.comments) == 3


def test_what_a_broken_upload_left_is_replaced(github, attach, bundle):
    github.keep(bundle.name, b"", "starter")
    attach()
    assert_attached_once(github, bundle)


@pytest.mark.parametrize("action", ["cut", "cut after", "half", 502, 429])
@pytest.mark.parametrize("line", [r"POST .*/assets", r"POST .*/comments", r"GET .*/tags/", r"GET .*/comments"])
def test_a_failure_that_passes_is_survived_without_a_second_anything(github, attach, bundle, line, action):
    github.fail(line, action, times=2)
    attach()
    assert_attached_once(github, bundle)


def test_the_rate_limit_is_waited_for(github, attach, operator, bundle):
    limit = {"message": "You have exceeded a secondary rate limit."}
    github.fail("POST .*/comments", 403, headers={"Retry-After": "9"}, body=limit)
    attach()
    assert_attached_once(github, bundle)
    assert operator.waits == [9.0]


def test_a_rate_limit_of_an_hour_is_told(github, attach):
    fields = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999"}
    github.fail("GET", 403, headers=fields, body={"message": "API rate limit exceeded"})
    with pytest.raises(AttachError, match=r"API rate limit exceeded .*asks to wait"):
        attach()


def test_a_refused_comment_takes_the_asset_back(github, attach, bundle):
    error = {"message": "Validation Failed", "errors": [{"message": "issue is locked"}]}
    github.fail("POST .*/comments", 422, body=error)
    with pytest.raises(AttachError, match=r"Validation Failed; issue is locked .*was removed again"):
        attach()
    assert (github.assets, github.comments) == ([], [])
    attach()
    assert_attached_once(github, bundle)


def test_a_release_that_is_not_there_stops_before_the_comment(github, attach):
    with pytest.raises(AttachError, match="404"):
        attach("v9")
    assert github.comments == []


@pytest.mark.parametrize("tag", ["../x", "a b", "-x", "a\nb", "x" * 101])
def test_a_tag_that_is_none_is_refused_before_anything_is_sent(tag):
    from pcapdiag.ticket.attach.plan import check_release

    with pytest.raises(UsageError, match="tag of a release"):
        check_release(parse_target("https://github.com/acme/proxy/issues/7"), tag)


def test_an_upload_address_elsewhere_gets_nothing(github, attach):
    with serving(Server()) as thief:
        original = github.release

        def release(request):
            status, fields, body = original(request)
            return status, fields, {**body, "upload_url": f"{thief.url}/api/uploads/x/assets{{?name}}"}

        github.release = release
        with pytest.raises(AttachError):
            attach()
    assert thief.requests == []
    assert github.comments == []


def test_the_next_page_elsewhere_gets_nothing(github, attach):
    with serving(Server()) as thief:
        fields = {"Link": f'<{thief.url}/api/v3/more>; rel="next"'}
        github.fail("GET .*/comments", 200, headers=fields, body=[{"id": 1, "body": "x", "url": "x"}])
        with pytest.raises(AttachError):
            attach()
    assert thief.requests == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_elsewhere_gets_nothing(github, attach, status):
    with serving(Server()) as thief:
        github.fail("GET", status, headers={"Location": f"{thief.url}/api/v3/repos/a/b"}, times=9)
        with pytest.raises(AttachError):
            attach()
    assert thief.requests == []


def test_an_answer_that_is_not_githubs_is_one_sentence(github, attach):
    github.fail("GET", 200, body=b"<html>login</html>", headers={"Content-Type": "text/html"})
    with pytest.raises(AttachError, match="does not answer as its API does"):
        attach()


def test_public_github_is_asked_at_its_own_addresses():
    target = parse_target("https://github.com/acme/proxy/pull/7#issuecomment-1")
    assert requests_of(target, "v1/x") == (
        "GET https://api.github.com/repos/acme/proxy/issues/7/comments",
        "GET https://api.github.com/repos/acme/proxy/releases/tags/v1%2Fx",
        "GET https://api.github.com/repos/acme/proxy/releases/ID/assets",
        "POST https://uploads.github.com/repos/acme/proxy/releases/ID/assets",
        "GET https://api.github.com/repos/acme/proxy/issues/7/comments",
        "POST https://api.github.com/repos/acme/proxy/issues/7/comments",
    )


def test_the_library_is_left_as_it_was(attach):
    from github import Requester

    before = vars(Requester.Requester)["_Requester__httpsConnectionClass"]
    attach()
    assert vars(Requester.Requester)["_Requester__httpsConnectionClass"] is before
