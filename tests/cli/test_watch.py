"""``pcapdiag watch``: what is refused before the recording begins. `tests/watch` has the recorder itself."""

import pytest

pytestmark = pytest.mark.compiled_only


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--ring", "3MB"], "--ring 3MB: give a size of at least 4MB"),
        (["--ring", "much"], "--ring much: give a size"),
        (["--keep", "few"], "--keep few: give a number of incidents (200) or a size (2GB)"),
        (["--grace", "soon"], "--grace"),
        (["--no-redact", "--anonymize"], "what is not redacted is not anonymous"),
        (["--metrics", "x.txt"], "names end in .prom"),
        (["--notify-url-env", "NO_SUCH_VARIABLE"], "this variable of the environment is not set"),
        (["--select", "PD9999"], "PD9999"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(invoke, tmp_path, options, says):
    (tmp_path / "captures").mkdir()
    done = invoke("watch", tmp_path / "captures", "--out", tmp_path / "out", *options)
    assert done.returncode == 2
    assert says in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_secret_in_a_variable_is_not_shown(invoke, tmp_path):
    done = invoke("watch", "-", "--out", tmp_path / "out", "--notify-url-env", "HOOK", env={"HOOK": "s3cr3t"})
    assert done.returncode == 2
    assert "s3cr3t" not in done.stderr + done.stdout
