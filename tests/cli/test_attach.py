"""`pcapdiag attach` as an operator calls it: what it says, what it leaves, and how it ends."""

import os
import stat
import subprocess
import sys
import zipfile

import pytest

from pcapdiag.ticket.bundle import text_files, write_bundle
from tests.report import builders
from tests.ticket.attach.servers import TOKEN, GitLab, Jira, serving
from tests.waiting import HANG_S

pytestmark = pytest.mark.compiled_only


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write(tmp_path_factory.mktemp("bundle") / "incident.zip", builders.race_report())


def write(path, report):
    with path.open("wb") as file:
        write_bundle(file, report, [*text_files(report, {})])
    return path


@pytest.fixture
def attach(cli, tmp_path):
    def attach(*arguments, **variables):
        clean = {name: "" for name in os.environ if name.lower().endswith(("_proxy", "_ca_bundle"))}
        keyring = {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring", "HOME": str(tmp_path)}
        done = cli("attach", *arguments, env={**clean, **keyring, **variables})
        assert TOKEN not in done.stdout + done.stderr
        return done

    return attach


def test_the_address_of_the_comment_goes_to_stdout_and_progress_to_stderr(attach, bundle):
    with serving(GitLab()) as gitlab:
        url = f"{gitlab.url}/acme/ops/proxy/-/issues/7"
        done = attach(bundle, "--to", url, PCAPDIAG_GITLAB_TOKEN=TOKEN)
        assert (done.returncode, done.stdout) == (0, f"{url}#note_500\n")
        assert "the bundle was sent" in done.stderr
        again = attach(bundle, "--quiet", PCAPDIAG_ATTACH_TO=url, PCAPDIAG_GITLAB_TOKEN=TOKEN)
        assert (again.returncode, again.stdout, again.stderr) == (0, done.stdout, "")
        assert len(gitlab.notes) == 1


def test_a_dry_run_sends_nothing_and_shows_all(attach, bundle):
    with serving(Jira()) as jira:
        url = f"{jira.url}/browse/OPS-12"
        done = attach(bundle, "--to", url, "--dry-run", PCAPDIAG_JIRA_TOKEN=TOKEN)
        assert jira.requests == []
        attach(bundle, "--to", url, PCAPDIAG_JIRA_TOKEN=TOKEN)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Dry run: nothing was sent" in done.stdout
    assert url in done.stdout
    assert "PCAPDIAG_JIRA_TOKEN" in done.stdout
    for sent in jira.requests:
        assert f"  {sent.method} {jira.url}{sent.path}\n" in done.stdout
    assert jira.attachments[0]["filename"] in done.stdout
    assert done.stdout.endswith(f"\n\n{jira.comments[0]['body']}\n")
    with zipfile.ZipFile(bundle) as archive:
        for entry in archive.infolist()[1:]:
            assert f"  {entry.filename}  {entry.file_size:,} bytes\n" in done.stdout


def test_a_dry_run_for_jira_cloud_shows_the_comment_as_text(attach, bundle):
    done = attach(bundle, "--to", "https://acme.atlassian.net/browse/OPS-12", "--dry-run")
    assert done.returncode == 0
    assert "Credentials  none" in done.stdout
    assert "10.1.1.2:80" in done.stdout
    assert '"content"' not in done.stdout


def test_a_dry_run_needs_no_client_library(bundle):
    blocked = ("requests", "urllib3", "jira", "github", "gitlab", "requests_toolbelt")
    code = (
        "import sys\n"
        f"for name in {blocked!r}: sys.modules[name] = None\n"
        f"sys.argv = ['pcapdiag', 'attach', {str(bundle)!r}, '--to', 'https://github.com/a/b/issues/1', *{{}}]\n"
        "from pcapdiag.cli import main\nmain()\n"
    )
    env = {**os.environ, "PCAPDIAG_GITHUB_TOKEN": TOKEN}

    def run(*options):
        command = [sys.executable, "-c", code.format(list(options))]
        return subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=HANG_S)

    assert run("--dry-run").returncode == 0
    done = run()
    assert done.returncode == 2
    assert "pip install 'pcapdiag[attach]'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "https://github.com/a/b/issues/1"], "set PCAPDIAG_GITHUB_TOKEN"),
        (["--to", "https://ops:hunter2@github.com/a/b/issues/1"], "holds a user name or password"),
        (["--to", "http://github.com/a/b/issues/1"], "use https://"),
        (["--to", "https://github.com/a/b"], "leads to no ticket"),
        (["--to", "https://gitlab.com/a/b/-/issues/1", "--release", "v1"], "--release is for GitHub"),
        ([], "Missing option '--to'"),
    ],
)
def test_what_cannot_be_done_ends_with_two_and_a_sentence(attach, bundle, arguments, words):
    done = attach(bundle, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_refusal_of_the_server_ends_with_two_and_a_sentence(attach, bundle):
    with serving(Jira()) as jira:
        done = attach(bundle, "--to", f"{jira.url}/browse/OPS-13", PCAPDIAG_JIRA_TOKEN=TOKEN)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Issue does not exist" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_the_server_says_cannot_command_the_terminal(attach, bundle):
    with serving(Jira()) as jira:
        jira.fail("GET", 400, body={"errorMessages": ["\x1b[2J\x1b]0;owned\x07\u202eevil"], "errors": {}})
        done = attach(bundle, "--to", f"{jira.url}/browse/OPS-12", PCAPDIAG_JIRA_TOKEN=TOKEN)
    assert done.returncode == 2
    assert "\\x1b[2J" in done.stderr
    assert not {"\x1b", "\x07", "\u202e"} & set(done.stderr)


def test_a_bundle_that_is_not_redacted_is_attached_only_when_that_is_said(attach, tmp_path):
    bundle = write(tmp_path / "raw.zip", builders.report(builders.finding(), redact=False))
    with serving(Jira()) as jira:
        arguments = (bundle, "--to", f"{jira.url}/browse/OPS-12")
        done = attach(*arguments, PCAPDIAG_JIRA_TOKEN=TOKEN)
        assert done.returncode == 2
        assert "was made with --no-redact" in done.stderr
        assert jira.requests == []
        assert attach(*arguments, "--no-redact", PCAPDIAG_JIRA_TOKEN=TOKEN).returncode == 0
        assert "NOT REDACTED" in attach(*arguments, "--no-redact", "--dry-run").stdout


def test_no_option_takes_a_credential(attach):
    done = attach("--help")
    assert done.returncode == 0
    options = [word for word in done.stdout.split() if word.startswith("--")]
    assert not [o for o in options if any(part in o for part in ("token", "password", "user", "auth"))]


@pytest.fixture(scope="module")
def analyzed(cli, tmp_path_factory):
    """One capture analyzed into a bundle, beside a report on stdout."""
    capture = builders.__file__.replace("tests/report/builders.py", "captures/idle_close_race_65s/proxy.pcap")
    folder = tmp_path_factory.mktemp("analyzed")
    done = cli("analyze", capture, "-q", "--format", "json", "--bundle", folder / "b.zip")
    return capture, folder, done


def test_the_report_goes_to_stdout_beside_the_bundle(analyzed):
    _, folder, done = analyzed
    assert done.returncode == 1
    with zipfile.ZipFile(folder / "b.zip") as archive:
        assert archive.read("report.json").decode() == done.stdout
        assert {"MANIFEST", "report.html", "report.md", "evidence.pcapng", "charts/idle-gaps.png"} < {
            *archive.namelist()
        }
    assert stat.S_IMODE((folder / "b.zip").stat().st_mode) == 0o600


def test_the_same_capture_gives_the_same_bundle_byte_for_byte(analyzed, cli):
    capture, folder, _ = analyzed
    again = cli(
        "analyze", capture, "-q", "--bundle", folder / "c.zip", "-o", folder / "r.txt", env={"TZ": "Asia/Tokyo"}
    )
    assert again.returncode == 1
    assert (folder / "c.zip").read_bytes() == (folder / "b.zip").read_bytes()


def test_an_existing_bundle_is_left_alone_and_the_capture_not_read(analyzed, cli):
    capture, folder, _ = analyzed
    before = (folder / "b.zip").read_bytes()
    done = cli("analyze", capture, "-q", "--bundle", folder / "b.zip")
    assert (done.returncode, done.stdout) == (2, "")
    assert "exists already" in done.stderr
    assert (folder / "b.zip").read_bytes() == before


def test_the_comment_says_how_to_find_the_proof_in_the_bundle(attach, analyzed):
    _, folder, _ = analyzed
    for url in (
        "https://github.com/a/b/issues/1",
        "https://acme.atlassian.net/browse/OPS-1",
        "https://j.example/browse/OPS-1",
    ):
        shown = attach(folder / "b.zip", "--to", url, "--dry-run").stdout
        assert "evidence.pcapng the Wireshark filter frame.comment selects" in shown


def test_the_evidence_of_a_bundle_opens_with_its_comments(analyzed, tshark, tmp_path):
    _, folder, _ = analyzed
    with zipfile.ZipFile(folder / "b.zip") as archive:
        (tmp_path / "e.pcapng").write_bytes(archive.read("evidence.pcapng"))
    comments = tshark(tmp_path / "e.pcapng", "frame.comment", display_filter="frame.comment")
    assert any("FIN" in text for (text,) in comments)


@pytest.mark.parametrize(
    ("bundle", "output", "words"), [("-", "-", "stdout is for the report"), ("x.zip", "./x.zip", "cannot both write")]
)
def test_a_bundle_wants_a_file_of_its_own(cli, analyzed, tmp_path, bundle, output, words):
    done = cli("analyze", analyzed[0], "--bundle", bundle, "-o", output, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_refused_before_it_is_read(cli, tmp_path):
    done = cli("analyze", "-", "--bundle", tmp_path / "b.zip", stdin=b"")
    assert done.returncode == 2
    assert b"cannot be read twice" in done.stderr
    assert list(tmp_path.iterdir()) == []
