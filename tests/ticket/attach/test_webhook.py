"""A webhook gets one form, a repetition can be told by its key."""

import pytest

from pcapdiag.base.errors import AttachError, UsageError
from tests.ticket.attach.servers import TOKEN, Server, Webhook, serving

pytestmark = pytest.mark.compiled_only


@pytest.fixture
def hook():
    with serving(Webhook()) as server:
        yield server


def test_the_form_holds_the_bundle_the_comment_and_the_identifier(hook, operator, bundle):
    url = f"{hook.url}/incidents?team=edge"
    assert operator.attach(url) == url
    (request,) = hook.requests
    form = request.form()
    with bundle.reopened() as file:
        assert form["bundle"] == (bundle.name, file.read())
    assert form["report"] == (None, bundle.manifest.report.encode())
    assert form["sha256"] == (None, bundle.sha256.encode())
    assert form["comment"][1].decode().startswith(bundle.ticket("ticket/github.md").rstrip())
    assert list(form) == ["report", "sha256", "comment", "bundle"]
    assert request.query == {"team": "edge"}
    assert request.headers["authorization"] == f"Bearer {TOKEN}"


def test_a_repetition_has_the_same_key(hook, operator, bundle):
    operator.attach(hook.url)
    operator.attach(hook.url)
    expected = f"pcapdiag-{bundle.manifest.report}-{bundle.sha256[:12]}"
    assert [r.headers["idempotency-key"] for r in hook.requests] == [expected, expected]


@pytest.mark.parametrize("action", ["cut", "cut after", "half", 503, 429])
def test_a_failure_that_passes_is_tried_again_whole_with_the_same_key(hook, operator, action):
    hook.fail("POST", action, times=2)
    operator.attach(hook.url)
    assert len({r.headers["idempotency-key"] for r in hook.requests}) == 1
    assert len({len(r.form()["bundle"][1]) for r in hook.requests}) == 1
    assert operator.waits == [1.0, 2.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_refusal_is_told_and_not_tried_again(hook, operator, status):
    hook.fail("POST", status, body={"error": "no thanks"}, times=9)
    with pytest.raises(AttachError, match=rf"no thanks \(status {status}\)"):
        operator.attach(hook.url)
    assert len(hook.requests) == 1


def test_without_a_token_no_credential_is_made_up(hook, operator, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ops password from-netrc\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    del operator.environment["PCAPDIAG_WEBHOOK_TOKEN"]
    operator.attach(hook.url)
    assert "authorization" not in hook.requests[0].headers


def test_a_proxy_does_not_see_what_stays_on_this_machine(hook, operator, monkeypatch):
    with serving(Server()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        operator.attach(hook.url)
    assert proxy.requests == []
    assert len(hook.requests) == 1


def test_a_redirect_is_not_followed_with_the_bundle(hook, operator):
    with serving(Server()) as thief:
        hook.fail("POST", 307, headers={"Location": thief.url}, times=9)
        with pytest.raises(AttachError, match="moved what should be written to"):
            operator.attach(hook.url)
    assert thief.requests == []


def test_a_tracker_without_credentials_is_never_treated_as_a_webhook(operator):
    operator.environment.clear()
    with pytest.raises(UsageError, match=r"there are no credentials for github\.com: set PCAPDIAG_GITHUB_TOKEN"):
        operator.attach("https://github.com/acme/proxy/issues/7")
