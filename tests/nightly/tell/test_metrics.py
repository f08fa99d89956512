"""Metrics as node_exporter and Prometheus read them."""

import stat

import pytest

from pcapdiag.base.errors import UsageError
from pcapdiag.nightly.store.store import Store
from pcapdiag.nightly.tell.metrics import write_metrics
from tests.nightly.site import nights

pytestmark = pytest.mark.compiled_only


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Yield a store of four nights."""
    folder = tmp_path_factory.mktemp("metrics")
    with Store(str(nights.make_store(folder / "captures", folder / "store.db"))) as opened:
        yield opened


def samples_of(families):
    return {(sample.name, *(sorted(sample.labels.items()))): sample.value for f in families for sample in f.samples}


def parse(text):
    """Return the samples as both parsers of Prometheus' own client see them, which must be the same."""
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
    from prometheus_client.parser import text_string_to_metric_families as prometheus

    families = list(openmetrics(text))
    assert {f.type for f in families} == {"gauge"}
    assert all(f.documentation for f in families)
    samples = samples_of(families)
    assert samples == samples_of(prometheus(text))
    return samples


def samples_in(store, folder, **options):
    file = folder / "told.prom"
    write_metrics(store, file, **options)
    return parse(file.read_text())


def test_prometheus_reads_what_the_store_holds(store, tmp_path):
    samples = samples_in(store, tmp_path, notify_failures=2)
    assert samples["pcapdiag_findings", ("state", "ongoing")] == 1
    assert samples["pcapdiag_findings", ("state", "new")] == 0
    assert samples["pcapdiag_scan_files", ("status", "ok")] == 4
    assert samples["pcapdiag_scan_files", ("status", "failed")] == 1
    assert samples["pcapdiag_notify_failures",] == 2
    assert samples["pcapdiag_scan_end_timestamp_seconds",] > 1.7e9
    lost = {key: value for key, value in samples.items() if key[0] == "pcapdiag_upstream_lost"}
    assert list(lost.values()) == [5]
    [(finding, count)] = [item for item in samples.items() if item[0][0] == "pcapdiag_finding_last_night"]
    assert count == 5
    assert dict(finding[1:])["upstream"] == dict(next(iter(lost))[1:])["upstream"]
    # Five seconds, as the captures have it.
    [timeout] = [v for k, v in samples.items() if k[0] == "pcapdiag_upstream_idle_timeout_seconds"]
    assert timeout == pytest.approx(5, abs=0.1)


def test_hostile_labels_are_labels(tmp_path):
    made = nights.make_store(tmp_path / "captures", tmp_path / "store.db")
    nights.attack(made)
    with Store(str(made)) as store:
        samples = samples_in(store, tmp_path)
    labels = [dict(key[1:]).get("upstream", "") for key in samples]
    assert any("<script>" in label for label in labels)
    assert all(len(label) < 300 and label.isprintable() for label in labels)


def test_the_file_is_replaced_and_readable_by_who_may_read_its_folder(store, tmp_path):
    tmp_path.chmod(0o755)
    file = tmp_path / "pcapdiag.prom"
    write_metrics(store, file)
    write_metrics(store, file, notify_failures=1)
    assert parse(file.read_text())["pcapdiag_notify_failures",] == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [p.name for p in tmp_path.iterdir()] == ["pcapdiag.prom"]


def test_metrics_of_others_are_not_replaced(store, tmp_path):
    (tmp_path / "other.prom").write_text("# HELP node_uptime\n")
    with pytest.raises(UsageError, match="is not pcapdiag's own"):
        write_metrics(store, tmp_path / "other.prom")


def test_a_name_that_node_exporter_does_not_read_is_refused(store, tmp_path):
    with pytest.raises(UsageError, match=r"end in \.prom"):
        write_metrics(store, tmp_path / "pcapdiag.txt")


def test_an_empty_store_has_metrics_that_can_be_read(tmp_path):
    with Store(str(tmp_path / "store.db")) as empty:
        samples = samples_in(empty, tmp_path)
    assert samples["pcapdiag_findings", ("state", "new")] == 0
