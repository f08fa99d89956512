"""Credentials come from the environment or the keyring, and show nowhere."""

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from pcapdiag.base.errors import UsageError
from pcapdiag.ticket.attach.credentials import find_credentials, require_credentials
from pcapdiag.ticket.attach.targets import parse_target
from tests.ticket.attach.servers import TOKEN

pytestmark = pytest.mark.compiled_only

JIRA = parse_target("https://jira.example.com:8443/browse/OPS-1")
CLOUD = parse_target("https://acme.atlassian.net/browse/OPS-1")
GITHUB = parse_target("https://github.com/a/b/issues/1")
WEBHOOK = parse_target("https://hooks.example.com/in")


class Keyring(KeyringBackend):
    """A keyring in memory."""

    priority = 1

    def __init__(self, passwords, *, is_locked=False):
        super().__init__()
        self.passwords = passwords
        self.is_locked = is_locked

    def get_password(self, service, username):
        if self.is_locked:
            raise KeyringLocked
        return self.passwords.get((service, username))

    def set_password(self, service, username, password):
        self.passwords[service, username] = password


@pytest.fixture
def use_keyring():
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


def test_each_system_has_its_own_variable():
    environment = {"PCAPDIAG_GITHUB_TOKEN": TOKEN}
    assert find_credentials(GITHUB, environment).token == TOKEN
    assert find_credentials(JIRA, environment) is None
    assert find_credentials(WEBHOOK, environment) is None


def test_the_keyring_is_asked_by_host_where_the_environment_says_nothing(use_keyring):
    use_keyring(Keyring({("pcapdiag", "jira.example.com:8443"): TOKEN}))
    found = find_credentials(JIRA, {})
    assert (found.token, found.source) == (TOKEN, "keyring, pcapdiag jira.example.com:8443")
    assert find_credentials(GITHUB, {}) is None
    assert find_credentials(JIRA, {"PCAPDIAG_JIRA_TOKEN": TOKEN[::-1]}).token == TOKEN[::-1]


def test_a_locked_keyring_is_said_to_be(use_keyring):
    use_keyring(Keyring({}, is_locked=True))
    with pytest.raises(UsageError, match=r"keyring did not answer \(KeyringLocked\)"):
        find_credentials(JIRA, {})


def test_a_tracker_wants_credentials_and_says_where_they_go():
    with pytest.raises(UsageError, match=r"set PCAPDIAG_GITHUB_TOKEN, .*keyring set pcapdiag github\.com"):
        require_credentials(GITHUB, {})
    assert require_credentials(WEBHOOK, {}) is None


def test_jira_cloud_wants_to_know_whose_token_it_is():
    with pytest.raises(UsageError, match="PCAPDIAG_JIRA_USER"):
        require_credentials(CLOUD, {"PCAPDIAG_JIRA_TOKEN": TOKEN})
    assert require_credentials(JIRA, {"PCAPDIAG_JIRA_TOKEN": TOKEN}).user == ""


@pytest.mark.parametrize("bad", [f"{TOKEN}\n", f"{TOKEN}\r\nX-Evil: 1", f"a {TOKEN}", f"{TOKEN}\0", f"{TOKEN}\u00e9"])
def test_a_token_that_would_end_its_field_is_refused_and_not_shown(bad):
    with pytest.raises(UsageError) as caught:
        find_credentials(GITHUB, {"PCAPDIAG_GITHUB_TOKEN": bad})
    assert TOKEN not in str(caught.value)


def test_credentials_show_in_no_representation():
    found = find_credentials(CLOUD, {"PCAPDIAG_JIRA_TOKEN": TOKEN, "PCAPDIAG_JIRA_USER": "ops@example.com"})
    for shown in (repr(found), str(found), f"{found}"):
        assert TOKEN not in shown
        assert "ops@example.com" not in shown
