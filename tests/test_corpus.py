"""Every public capture: read to its end in bounded time and memory, and seen as tshark and Zeek see it.

Where pcapdiag sees something else, docs/corpus-decisions.md says so and why; a difference that is not listed fails, and
so does an entry of the list that is no longer one.
"""

import resource
import time
from functools import cache

import pytest

from tests.corpus_truth import CORPUS, DECISIONS, analyse, compare, decisions, golden

pytestmark = [pytest.mark.corpus, pytest.mark.compiled_only]

SLOWEST_S = 20
"""[s] Of a processor. No capture is larger than 500 kB; a run that takes this long does not end by itself."""
MEMORY_BYTES = 300 << 20


@cache
def results():
    """Analyse the whole corpus once: ({capture: View or refusal}, slowest time, growth of memory in bytes)."""
    views, slowest_s, before_kib = {}, 0.0, 0
    for capture in golden():
        begun_s = time.process_time()
        views[capture] = analyse(CORPUS / capture)
        if not before_kib:
            before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        else:
            slowest_s = max(slowest_s, time.process_time() - begun_s)
    grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) << 10
    return views, slowest_s, grown_bytes


def test_no_capture_of_the_corpus_raises_hangs_or_outgrows_memory(corpus):  # noqa: ARG001 - skips without the corpus
    views, slowest_s, grown_bytes = results()
    assert len(views) == 1479
    assert slowest_s < SLOWEST_S
    assert grown_bytes < MEMORY_BYTES


def test_only_files_without_a_capture_header_are_refused(corpus):  # noqa: ARG001 - skips without the corpus
    refused = {capture for capture, view in results()[0].items() if isinstance(view, str)}
    assert refused == set()


def test_connections_and_messages_are_those_of_tshark_and_zeek_but_for_listed_decisions(corpus):  # noqa: ARG001
    found = {
        (capture, aspect): difference
        for capture, view in results()[0].items()
        if not isinstance(view, str)
        for aspect, (difference, _) in compare(capture, view).items()
    }
    listed = decisions()
    unlisted = {key: value for key, value in found.items() if listed.get(key) != value}
    stale = {key: value for key, value in listed.items() if key not in found}
    assert not unlisted, "\n".join(f"{capture} | {aspect} | {value}" for (capture, aspect), value in unlisted.items())
    assert not stale, f"{DECISIONS.name} lists what is no difference: {sorted(stale)}"
