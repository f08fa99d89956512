"""Progress on stderr: nothing for short work, and nothing but a bar on a terminal for long work."""

import pytest

from pcapdiag.cli import progress
from pcapdiag.cli.progress import ProgressMeter


class FakeBar:
    """Remembers what it was told."""

    def __init__(self):
        self.told, self.is_stopped = [], False

    def update(self, task, **values):
        self.told.append((task, values))

    def stop(self):
        self.is_stopped = True


@pytest.fixture
def world(monkeypatch):
    """Return a clock [s], whether stderr is a terminal, and the bars that were made."""
    world = {"now_s": 0.0, "is_tty": True, "bars": []}
    monkeypatch.setattr(progress.time, "monotonic", lambda: world["now_s"])
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: world["is_tty"], raising=False)

    def new_bar():
        world["bars"].append(FakeBar())
        return world["bars"][-1], 7

    monkeypatch.setattr(progress, "_new_bar", new_bar)
    return world


def work(world, meter, seconds, *, every_s=0.01):
    while world["now_s"] < seconds:
        world["now_s"] += every_s
        meter.on_progress(int(world["now_s"] * 100), 1000, 1234)


def test_short_work_shows_nothing(world):
    with ProgressMeter() as meter:
        work(world, meter, 0.99)
    assert world["bars"] == []


def test_long_work_has_one_bar_that_is_removed_in_the_end(world):
    with ProgressMeter() as meter:
        work(world, meter, 3)
        (bar,) = world["bars"]
        assert not bar.is_stopped
    assert bar.is_stopped
    assert len(bar.told) < 25, "ten times a second"
    task, values = bar.told[-1]
    assert (task, values["total"], values["description"]) == (7, 1000, "1,234 frames")


def test_the_bar_is_removed_after_an_error_as_well(world):
    meter = ProgressMeter()
    work(world, meter, 3)
    with pytest.raises(ZeroDivisionError), meter:
        work(world, meter, 1 // 0)
    assert world["bars"][0].is_stopped


def test_a_size_that_nobody_knows_is_none(world):
    meter = ProgressMeter()
    world["now_s"] = 2
    meter.on_progress(5, 0, 1)
    assert world["bars"][0].told[0][1]["total"] is None


@pytest.mark.parametrize(("quiet", "is_tty"), [(True, True), (False, False)])
def test_who_wants_none_or_reads_a_file_sees_none(world, capsys, quiet, is_tty):
    world["is_tty"] = is_tty
    with ProgressMeter(quiet=quiet) as meter:
        work(world, meter, 5)
    assert world["bars"] == []
    assert capsys.readouterr() == ("", "")
