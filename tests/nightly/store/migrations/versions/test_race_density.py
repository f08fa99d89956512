"""A store that was made before nights said how close the race came."""

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations

from pcapdiag.nightly.store.database import Database
from pcapdiag.nightly.store.history import list_upstreams
from pcapdiag.nightly.store.migrations.versions import race_density
from pcapdiag.nightly.store.store import Store
from tests.nightly.store.builders import result

pytestmark = pytest.mark.compiled_only


def test_a_store_of_an_older_program_is_read_and_goes_on(tmp_path):
    path = str(tmp_path / "store.db")
    with Store(path) as store:
        scan = store.begin_scan(["/c"], "job", "1")
        store.write_capture(scan, result("a"))
    newest = Database(path)
    with newest.writing() as db, Operations.context(MigrationContext.configure(db)):
        race_density.downgrade()
        db.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    newest.close()
    with Store(path) as store:
        store.write_capture(scan, result("b", day=21, gaps_near=40, lost_near=18, watched_ppm=500_000))
        old, new = list_upstreams(store)
    assert (old.day, old.near_misses, old.risk) == ("2026-11-20", 2, None)
    assert new.risk.expected == 40
