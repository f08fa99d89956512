"""Each proxy is told in its own words how to keep connections, how many, and for how many requests."""

import re

import pytest

from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.rules import _reuse_words as words
from tests.rules.builders import Scene
from tests.rules.test_tongues import WORDS

PEER = "10.1.1.1:80"
ADVICE = (words.reuse_advice, words.pool_size_advice, words.request_limit_advice)


def told(kind):
    """Return all advice for one kind of proxy."""
    s = Scene()
    analysis = s.analysis(upstream=s.upstream(), proxy_kind=kind)
    return [words.reuse_advice(analysis, PEER), *(advice(analysis, PEER, 7) for advice in ADVICE[1:])]


@pytest.mark.parametrize("kind", ProxyKind)
def test_nobodys_words_for_anybody_else(kind):
    for text in told(kind):
        for kin, pattern in WORDS:
            if kind not in kin:
                assert not re.search(pattern, text), text


def test_where_nothing_tells_what_the_proxy_is_nginx_is_an_example():
    assert all("in nginx: keepalive" in text for text in told(None))


def test_the_numbers_are_those_of_the_capture():
    _, size, limit = told(ProxyKind.NGINX)
    assert "keepalive 7;" in size
    assert "keepalive_requests 7;" in limit
    assert "max-reuse 6" in told(ProxyKind.HAPROXY)[2]
