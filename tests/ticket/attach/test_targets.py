"""What a URL leads to, and which URLs are refused before anything is sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.errors import UsageError
from pcapdiag.ticket.attach.targets import Kind, Target, parse_target

pytestmark = pytest.mark.compiled_only


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (
            "https://acme.atlassian.net/browse/OPS-12?focusedCommentId=5#x",
            Target(
                Kind.JIRA_CLOUD,
                "https://acme.atlassian.net/browse/OPS-12",
                "https://acme.atlassian.net",
                "https://acme.atlassian.net",
                number="OPS-12",
            ),
        ),
        (
            "https://Jira.Example.com:8443/tools/jira/browse/A_B2-7/",
            Target(
                Kind.JIRA,
                "https://jira.example.com:8443/tools/jira/browse/A_B2-7",
                "https://jira.example.com:8443",
                "https://jira.example.com:8443/tools/jira",
                number="A_B2-7",
            ),
        ),
        (
            "https://github.com/acme/edge-proxy/pull/7#issuecomment-1",
            Target(
                Kind.GITHUB,
                "https://github.com/acme/edge-proxy/pull/7",
                "https://github.com",
                "https://github.com",
                "acme/edge-proxy",
                "7",
                is_change=True,
            ),
        ),
        (
            "https://gitlab.example.com:443/a/b/c.d/-/merge_requests/12",
            Target(
                Kind.GITLAB,
                "https://gitlab.example.com/a/b/c.d/-/merge_requests/12",
                "https://gitlab.example.com",
                "https://gitlab.example.com",
                "a/b/c.d",
                "12",
                is_change=True,
            ),
        ),
        (
            "https://hooks.example.com/in/5?team=edge",
            Target(
                Kind.WEBHOOK,
                "https://hooks.example.com/in/5?team=edge",
                "https://hooks.example.com",
                "https://hooks.example.com",
            ),
        ),
    ],
)
def test_a_url_of_the_browser_is_understood(url, target):
    assert parse_target(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "https://ops:hunter2@jira.example.com/browse/OPS-1",
        "https://hunter2@github.com/a/b/issues/1",
        "https://@github.com/a/b/issues/1",
        "https://hooks.example.com/in?token=hunter2",
        "https://hooks.example.com/in?a=1&access_token=hunter2",
        "https://hooks.example.com/in?API_KEY=hunter2",
        "https://hooks.example.com/in?%74oken=hunter2",
        "https://hooks.example.com/in?sig=hunter2",
    ],
)
def test_a_credential_in_a_url_is_refused_and_not_repeated(url):
    with pytest.raises(UsageError) as caught:
        parse_target(url)
    assert "hunter2" not in str(caught.value)
    assert "take it out" in str(caught.value)


@pytest.mark.parametrize(
    "host", ["example.com", "10.0.0.1", "127.0.0.1.example.com", "localhost.example.com", "[fe80::1]"]
)
def test_what_leaves_this_machine_is_encrypted(host):
    with pytest.raises(UsageError, match="https://"):
        parse_target(f"http://{host}/browse/OPS-1")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080"])
def test_this_machine_needs_no_encryption(host):
    assert parse_target(f"http://{host}/browse/OPS-1").origin == f"http://{host}"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "OPS-12",
        "ftp://example.com/x",
        "file:///etc/passwd",
        "https://",
        "https:///browse/OPS-1",
        "https://exa mple.com/x",
        "https://example.com\\evil.example/x",
        "https://example.com:99999/x",
        "https://example.com:0/x",
        "https://[::1/x",
        "https://ex\u0430mple.com/x",
        "https://example.com/\nHost: evil",
        "https://example.com/" + "x" * 2000,
    ],
)
def test_what_is_no_url_is_refused(url):
    with pytest.raises(UsageError, match="--to is no URL"):
        parse_target(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/acme/proxy",
        "https://github.com/acme/proxy/issues",
        "https://www.github.com/x",
        "https://gitlab.com/acme/proxy/issues/x",
        "https://acme.atlassian.net/jira/software/projects/OPS",
    ],
)
def test_a_tracker_is_never_taken_for_a_webhook(url):
    with pytest.raises(UsageError, match="leads to no ticket"):
        parse_target(url)


@pytest.mark.parametrize("kind", ["jira", "jira-cloud", "github", "gitlab"])
def test_a_kind_wants_urls_of_its_form(kind):
    with pytest.raises(UsageError, match="it looks like https://"):
        parse_target("https://example.com/whatever", kind)


@pytest.mark.parametrize("path", ["/a/../b/issues/1", "/../b/issues/1", "/a/b/issues/1/../../2", "/a%2e/b/issues/1"])
def test_a_path_that_climbs_leads_to_no_ticket(path):
    with pytest.raises(UsageError):
        parse_target(f"https://example.com{path}", "github")


def test_a_kind_may_be_said_where_the_url_looks_like_another():
    assert parse_target("https://example.com/a/b/issues/1", "webhook").kind is Kind.WEBHOOK
    assert parse_target("https://example.com/browse/OPS-1", "jira-cloud").kind is Kind.JIRA_CLOUD


@given(st.text(max_size=80) | st.text("htps:/@[]?#%.-a1\\", max_size=40).map("https://{}".format))
def test_any_text_is_a_target_or_a_plain_refusal(url):
    try:
        target = parse_target(url)
    except UsageError:
        return
    assert target.url.startswith(target.origin)
    assert "@" not in target.origin
