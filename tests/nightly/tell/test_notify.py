"""Messages about new and worse findings, as they arrive: once per channel, and with no secret anywhere."""

import re
import socket
from email import message_from_bytes, policy

import pytest

from pcapdiag.base.errors import UsageError
from pcapdiag.nightly.store.store import Store
from pcapdiag.nightly.tell.notify import ChannelResult, notify
from pcapdiag.ticket.notify.channels import open_channels
from tests.nightly.site import nights
from tests.nightly.tell.listeners import http_server

pytestmark = [
    pytest.mark.compiled_only,
    # Apprise looks for a module that Python is about to drop.
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]

SECRET = "s3cr3t-t0k3n-of-the-channel"  # noqa: S105 - made up, and looked for in all output


@pytest.fixture
def server():
    """Yield an HTTP server."""
    with http_server() as listening:
        yield listening


@pytest.fixture
def captures(tmp_path):
    """Return a folder with one night of captures."""
    return nights.write_nights(tmp_path / "captures", races=(0, 2), days=(0, 1))


@pytest.fixture
def run(cli, captures, tmp_path):
    """Return a function that scans and tells; no output holds the secret."""

    def run(*urls, **env):
        variables = {"PCAPDIAG_NOTIFY": " ".join(urls), "XDG_CONFIG_HOME": str(tmp_path / "config"), **env}
        done = cli("scan", captures, "--store", tmp_path / "store.db", "--no-exchanges", env=variables)
        assert SECRET not in done.stdout + done.stderr
        assert SECRET.encode() not in (tmp_path / "store.db").read_bytes()
        return done

    return run


@pytest.fixture
def tell(captures, tmp_path):
    """Return a function that scans and tells in this process, and returns what became of each channel."""

    def tell(*urls):
        with Store(str(tmp_path / "store.db")) as store:
            nights.scan(captures, store, html=False)
            return notify(store, open_channels(urls), lambda _: "")

    return tell


def test_a_webhook_is_told_what_is_new_once_and_what_is_worse_again(server, run, captures):
    url = f"json://{server.host}/hooks/{SECRET}"
    done = run(url, PCAPDIAG_SITE_URL="https://ops.example/pcapdiag/")
    assert done.returncode == 1
    assert "told json-1 of 1 finding" in done.stderr
    [(path, headers, message)] = server.requests
    assert path == f"/hooks/{SECRET}"
    assert headers["Content-Type"] == "application/json"
    assert message["title"] == "pcapdiag: 1 new (2023-11-15)"
    assert message["message"].startswith("NEW: PD1")
    assert "2 times on 2023-11-15, 2 in all" in message["message"]
    assert re.search(r"https://ops\.example/pcapdiag/findings/PD1\d\d-[0-9a-f]{16}\.html", message["message"])
    assert "github.com" not in str(message), "no logo of others"

    assert run(url).returncode == 1
    assert len(server.requests) == 1

    nights.write_nights(captures, races=(40,), days=(2,))
    run(url)
    assert [m["title"] for _, _, m in server.requests[1:]] == ["pcapdiag: 1 worse (2023-11-16)"]
    run(url)
    assert len(server.requests) == 2


def test_a_chat_with_the_webhooks_of_slack_is_told(server, tell):
    tell(f"mmost://{server.host}/{SECRET}")
    [(path, _, message)] = server.requests
    assert path == f"/hooks/{SECRET}"
    assert "NEW: PD1" in message["text"]


class _Mailbox:
    def __init__(self):
        self.mails = []

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - aiosmtpd's own name
        self.mails.append(envelope)
        return "250 OK"


def test_a_mailbox_is_told(tell):
    controller = pytest.importorskip("aiosmtpd.controller", reason="aiosmtpd is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mailbox = _Mailbox()
    listening = controller.Controller(mailbox, hostname="127.0.0.1", port=port)
    listening.start()
    try:
        url = f"mailto://127.0.0.1:{port}?from=scan@example.test&to=oncall@example.test&format=text&mode=insecure"
        assert tell(url) == (ChannelResult("mailto-1", 1),)
    finally:
        listening.stop()
    [envelope] = mailbox.mails
    assert envelope.rcpt_tos == ["oncall@example.test"]
    mail = message_from_bytes(envelope.content, policy=policy.default)
    assert mail["subject"] == "pcapdiag: 1 new (2023-11-15)"
    assert "NEW: PD1" in mail.get_body(("plain",)).get_content()


def test_a_server_that_refuses_is_said_and_told_by_the_next_scan(server, tell, captures):
    url = f"json://{server.host}/{SECRET}"
    server.status = 503
    assert tell(url) == (ChannelResult("json-1", 1, "its server answered 503"),)
    n_tried = len(server.requests)
    assert n_tried == 3
    server.status = 200
    # By then it is not new any more, but it was never told.
    nights.write_nights(captures, races=(1,), days=(2,))
    assert tell(url) == (ChannelResult("json-1", 1),)
    assert [m["title"] for _, _, m in server.requests[n_tried:]] == ["pcapdiag: 1 not told before (2023-11-16)"]
    assert tell(url) == (ChannelResult("json-1", 0),)
    assert len(server.requests) == n_tried + 1


def test_one_channel_that_fails_keeps_no_other_from_being_told(server, run):
    done = run(f"json://127.0.0.1:9/{SECRET}", f"json://{server.host}/")
    assert done.returncode == 1, "the exit code is that of the findings"
    assert "could not tell json-1: it could not be reached, or refused the message; the next scan tries" in done.stderr
    assert "told json-2 of 1 finding" in done.stderr
    assert len(server.requests) == 1
    assert "PD1" in done.stdout


def test_nothing_is_sent_unasked_and_nothing_where_nothing_is_new(server, run, captures):
    for file in captures.rglob("proxy.pcap"):
        file.unlink()
    nights.write_nights(captures, races=(0,), days=(0,))
    assert run(f"json://{server.host}/").returncode == 0
    nights.write_nights(captures, races=(2,), days=(1,))
    assert run().returncode == 1
    assert server.requests == []


def test_another_variable_may_hold_the_urls(server, cli, captures, tmp_path):
    arguments = ("scan", captures, "--store", tmp_path / "store.db", "--notify-url-env", "HOOK")
    done = cli(*arguments, env={"XDG_CONFIG_HOME": str(tmp_path)})
    assert done.returncode == 2
    assert "HOOK: this variable of the environment is not set" in done.stderr
    assert cli(*arguments, env={"HOOK": f"json://{server.host}/", "XDG_CONFIG_HOME": str(tmp_path)}).returncode == 1
    assert len(server.requests) == 1


def test_ones_own_pcapdiag_toml_may_hold_the_urls(server, run, tmp_path):
    folder = tmp_path / "config" / "pcapdiag"
    folder.mkdir(parents=True)
    (folder / "pcapdiag.toml").write_text(f'[scan]\nnotify = ["json://{server.host}/{SECRET}"]\n')
    (folder / "pcapdiag.toml").chmod(0o600)
    run()
    assert [path for path, _, _ in server.requests] == [f"/{SECRET}"]


@pytest.mark.parametrize("url", [f"nonsense://{SECRET}", SECRET, f"slack://{SECRET}", "json://"])
def test_a_url_that_makes_no_sense_is_refused_before_anything_is_read_and_not_shown(url):
    if SECRET in url:
        with pytest.raises(UsageError) as error:
            open_channels([url])
        assert SECRET not in str(error.value)
    with pytest.raises(UsageError, match="URL 1 of those to notify"):
        open_channels([url])


def test_text_of_a_capture_calls_nobody_and_makes_no_link(server, tmp_path):
    made = nights.make_store(tmp_path / "captures", tmp_path / "store.db")
    nights.attack(made)
    import sqlite3

    with sqlite3.connect(made) as db:
        db.execute("UPDATE findings SET state = 'new', message = '<!channel> @everyone <@U1> ' || message")
    db.close()
    with Store(str(made)) as store:
        [told] = notify(store, open_channels([f"json://{server.host}/"]), lambda _: "")
    assert told.problem == ""
    [(_, _, message)] = server.requests
    text = message["title"] + message["message"]
    assert not set("<>@`") & set(text)
    assert text.replace("\n", "").isprintable()
    assert len(text.encode()) < 2000
