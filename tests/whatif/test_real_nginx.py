"""A real nginx and the plain model of its choices do the same, in hundreds of configurations."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.whatif.nginx_trials import run_trials, why_not
from tests.whatif.plain_selection import NON_IDEMPOTENT_METHODS, State, Try

SEED, N_TRIALS = 12, 240


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    if reason := why_not():
        pytest.skip(f"no trials of nginx: {reason}")
    return run_trials(SEED, N_TRIALS, tmp_path_factory.mktemp("nginx"))


class Watched(State):
    """The model, which keeps what nginx's debugging log tells as well."""

    was_failed = False

    def release(self, request, now_s, *, failed):
        self.was_failed = failed
        super().release(request, now_s, failed=failed)


def events_of(trial):
    """Return what happened in a trial in its order: (order, request number, try number, whether it is the release)."""
    events = []
    for number, request in enumerate(trial.requests):
        for n, attempt in enumerate(request.tries):
            events.append((attempt.picked_order, number, n, False))
            if attempt.outcome != "no_live":
                events.append((attempt.released_order, number, n, True))
    return sorted(events)


def first_difference(trial, settings):
    """Return how the model first differs from nginx in a trial, or ``None``."""
    state, under_way = Watched(trial.peers, settings), {}
    for _, number, n, is_release in events_of(trial):
        asked = trial.requests[number]
        attempt = asked.tries[n]
        if n == 0 and not is_release:
            under_way[number] = state.begin(
                attempt.picked_s, worker=asked.worker, method=asked.method, key=asked.key, body_unread=asked.body_unread
            )
        request = under_way[number]
        step = pick_as_nginx if not is_release else release_as_nginx
        nginx, model = step(state, request, asked, n)
        if nginx != model:
            return f"{trial.name}, request {number}, try {n}, {step.__name__}: nginx {nginx}, model {model}"
    return None


def pick_as_nginx(state, request, asked, n):
    attempt = asked.tries[n]
    tries_left = request.tries
    picked = state.pick(request, attempt.picked_s)
    weight = None if attempt.weight is None else request.current and request.current.current_weight
    status = None
    if attempt.outcome == "no_live":
        status = asked.status if n == len(asked.tries) - 1 else "another try"
    nginx = (None if attempt.peer < 0 else attempt.peer, attempt.tries_left, attempt.weight, status)
    return nginx, (picked, tries_left, weight, 502 if picked is None else None)


def release_as_nginx(state, request, asked, n):
    attempt, live = asked.tries[n], request.current
    # What has elapsed is measured by another clock than the second.
    request.started_s = attempt.released_s - attempt.elapsed_s
    status = state.decide(request, Try(attempt.outcome, cached=attempt.cached), attempt.released_s)
    effective = None if attempt.effective_weight is None else live.effective_weight
    nginx = (attempt.failed, attempt.effective_weight, asked.status if n == len(asked.tries) - 1 else None)
    return nginx, (state.was_failed, effective, status)


def tries_of(trials):
    return [(trial, request, attempt) for trial in trials for request in trial.requests for attempt in request.tries]


def test_nginx_and_the_model_choose_alike(trials):
    differences = [found for trial in trials if (found := first_difference(trial, trial.settings))]
    assert differences == []


def test_all_trials_came_about(trials):
    assert len(trials) == N_TRIALS
    assert len({(trial.peers, trial.settings, trial.keepalive) for trial in trials}) >= 200


def test_the_trials_show_every_outcome_and_every_setting(trials):
    outcomes = Counter((attempt.outcome, attempt.cached) for _, _, attempt in tries_of(trials))
    assert {outcome for outcome, _ in outcomes} == {
        *("ok", "error", "timeout", "invalid_header", "refused", "connect_timeout", "no_live"),
        *(f"http_{status}" for status in (500, 502, 503, 504, 403, 404, 429)),
    }
    assert outcomes["error", True] > 20
    assert {trial.settings.balance for trial in trials} == {"round_robin", "least_conn", "ip_hash", "hash"}
    shared = [trial for trial in trials if trial.settings.zone and len({r.worker for r in trial.requests}) > 1]
    apart = [trial for trial in trials if not trial.settings.zone and len({r.worker for r in trial.requests}) > 1]
    assert min(len(shared), len(apart)) > 5


def test_a_pooled_connection_that_fails_costs_no_try_but_is_a_failure(trials):
    seen = Counter()
    for _, request, attempt in tries_of(trials):
        if attempt.cached and attempt.outcome == "error":
            assert attempt.failed
            later = request.tries[request.tries.index(attempt) + 1 :]
            seen[request.method in NON_IDEMPOTENT_METHODS, bool(later)] += 1
    assert seen[False, True] > 5, "what may be repeated goes on"
    assert seen[True, False] > 5, "what may not ends"


@pytest.mark.parametrize(
    ("change", "least"),
    [
        ({"version": (1, 9, 12)}, 20),
        ({"version": (1, 11, 4)}, 10),
        ({"version": (1, 19, 5)}, 5),
        ({"buffering": True}, 1),
        ({"zone": False}, 3),
        ({"tries": 0}, 10),
        ({"timeout_s": 0}, 3),
    ],
)
def test_the_trials_would_show_a_model_of_another_nginx(trials, change, least):
    """Those whose configuration another version refuses are left out."""
    peers = [trial for trial in trials if not any(peer.max_conns for peer in trial.peers)]
    differences = [trial for trial in peers if first_difference(trial, replace(trial.settings, **change))]
    assert len(differences) >= least
