"""Nights of captures and the store of a scan over them."""

import sqlite3

from pcapdiag.nightly.scan.model import ReadOptions, ScanOptions
from pcapdiag.nightly.scan.run import run_scan
from pcapdiag.nightly.store.store import Store
from tests.nightly.scan.places import capture

DAY_S = 86_400
# 1 700 000 000 is 2023-11-14 22:13:20.
DAYS = ("2023-11-14", "2023-11-15", "2023-11-16", "2023-11-18")
RACES = (0, 2, 1, 5)
"""Lost requests per night; nothing was captured on 2023-11-17."""


def write_nights(folder, races=RACES, days=(0, 1, 2, 4)):
    """Write a capture per night, each in a folder of its own."""
    for n, day in zip(races, days, strict=True):
        capture(folder / f"day{day}" / "proxy.pcap", races=n, answered=6, at_s=DAY_S * day)
    (folder / "broken.pcap").write_bytes(b"no capture at all")
    return folder


def scan(folder, store, *, html=True):
    """Scan a folder in this process."""
    return run_scan(store, ScanOptions((str(folder),), ReadOptions(html=html, exchanges=False), jobs=1))


def make_store(folder, path, **options):
    """Write nights and scan them; return the store's path."""
    write_nights(folder)
    with Store(str(path)) as store:
        scan(folder, store, **options)
    return path


ATTACK = (
    "</style></script><script>window.owned=1</script><img src=x onerror=window.owned=1><svg onload=window.owned=1>"
    '" onmouseover="window.owned=1" \'{{7*7}}{% raw %}\x1b[31m\x9b\u202egpj\u2066\u200b../../../../etc/passwd'
    "javascript:alert(1)//http://evil.example/\r\n" + "A" * 3000
)
_TEXTS = {
    "findings": ("code", "name", "title", "subject", "message"),
    "sightings": ("message",),
    "occurrences": ("method", "target", "orig", "resp", "file"),
    "upstream_days": ("endpoint", "server_field"),
    "files": ("path",),
}


def attack(path):
    """Append an attack to every text of a store that may come from a capture."""
    with sqlite3.connect(path) as db:
        for table, columns in _TEXTS.items():
            for column in columns:
                db.execute(f"UPDATE {table} SET {column} = {column} || ?", (ATTACK,))  # noqa: S608 - our own tables
        db.execute("UPDATE findings SET identifier = identifier || ?", (ATTACK,))
        db.execute("UPDATE sightings SET identifier = identifier || ?", (ATTACK,))
        db.execute("UPDATE occurrences SET identifier = identifier || ?", (ATTACK,))
    db.close()
