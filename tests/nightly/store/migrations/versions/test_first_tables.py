"""The first step of a store, and back."""

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from pcapdiag.nightly.store.migrations.versions import first_tables, race_density
from pcapdiag.nightly.store.store import Store


def shape(engine):
    look = sa.inspect(engine)
    return {
        table: (
            sorted(column["name"] for column in look.get_columns(table)),
            sorted(index["name"] for index in look.get_indexes(table)),
        )
        for table in look.get_table_names()
        if table != "alembic_version"
    }


def test_it_begins_with_nothing_and_its_way_back_leaves_nothing():
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    with engine.connect() as db, Operations.context(MigrationContext.configure(db)):
        first_tables.upgrade()
        assert "upstream_days" in shape(engine)
        first_tables.downgrade()
    assert shape(engine) == {}
    engine.dispose()


def test_all_steps_make_the_tables_of_the_program(tmp_path):
    path = tmp_path / "store.db"
    with Store(str(path)):
        pass
    stepped, made = sa.create_engine("sqlite://", poolclass=sa.StaticPool), sa.create_engine(f"sqlite:///{path}")
    with stepped.connect() as db, Operations.context(MigrationContext.configure(db)):
        first_tables.upgrade()
        race_density.upgrade()
    assert shape(stepped) == shape(made)
    stepped.dispose()
    made.dispose()
