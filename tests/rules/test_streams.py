"""What frames that end a stream say, in words."""

import pytest

from pcapdiag.rules._streams import error_name


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0, "NO_ERROR, error 0"),
        (7, "REFUSED_STREAM, error 7"),
        (13, "HTTP_1_1_REQUIRED, error 13"),
        (14, "an error that is not defined"),
        (-1, "an error that is not defined"),
    ],
)
def test_error_codes_have_the_names_of_the_rfc(code, name):
    assert error_name(code) == name
