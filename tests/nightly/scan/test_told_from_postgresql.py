"""A store on PostgreSQL tells what one on SQLite tells: the same site, the same metrics, each message once."""

import pytest

from pcapdiag.nightly.site.write import write_site
from pcapdiag.nightly.store.store import Store
from pcapdiag.nightly.tell.metrics import write_metrics
from pcapdiag.nightly.tell.notify import ChannelResult, notify
from pcapdiag.ticket.notify.channels import open_channels
from tests.nightly.site import nights
from tests.nightly.tell.listeners import http_server

pytestmark = [
    pytest.mark.compiled_only,
    # Apprise looks for a module that Python is about to drop.
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]


def told(url, folder, site, channel):
    with Store(url, details=site.with_suffix(".exchanges")) as store:
        nights.scan(folder, store)
        write_site(store, site)
        write_metrics(store, site.with_suffix(".prom"))
        sent = [notify(store, open_channels([channel]), lambda _: "") for _ in range(2)]
    lines = site.with_suffix(".prom").read_text().splitlines()
    metrics = [line for line in lines if not line.startswith("pcapdiag_scan_")]
    pages = {str(p.relative_to(site)): p.read_bytes() for p in site.rglob("*.html")}
    return pages, metrics, sent


def test_both_tell_the_same(tmp_path, postgres):
    folder = nights.write_nights(tmp_path / "captures", races=(0, 2), days=(0, 1))
    with http_server() as server:
        channel = f"json://{server.host}/"
        here = told(str(tmp_path / "store.db"), folder, tmp_path / "here", channel)
        there = told(postgres(), folder, tmp_path / "there", channel)
    assert here == there
    assert len(here[0]) == 5
    assert here[2] == [(ChannelResult("json-1", 1),), (ChannelResult("json-1", 0),)]
    assert len(server.requests) == 2
