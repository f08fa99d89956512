"""A real nginx and the plain model of its choices do the same, in hundreds of configurations."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.whatif.nginx_trials import N_TRIALS, run_trials, why_not
from tests.whatif.plain_selection import MOST_SKIPS, NON_IDEMPOTENT_METHODS, State, Try
from tests.whatif.trial_plans import BALANCES


class Watched(State):
    """The model, which keeps what nginx's debugging log tells as well."""

    was_failed = False

    def release(self, request, now_s, *, failed):
        self.was_failed = failed
        super().release(request, now_s, failed=failed)


class Dice:
    """Numbers that lead the model to the peer that nginx drew, if it may serve; nginx does not tell them."""

    def throw_as_nginx(self, state, request, attempt):
        """Set the next numbers so that the model draws what nginx drew."""
        group = request.groups[0]
        free = {p.index for p in state._candidates(request, int(attempt.picked_s))}
        if attempt.weight is not None or attempt.peer < 0:
            # nginx drew in vain, and left it to round robin.
            self._places = [p.index for p in group if p.index not in free][:1] * (MOST_SKIPS + 1)
        elif state.settings.balance == "random":
            self._places = [attempt.peer] * (MOST_SKIPS + 1)
        else:
            # The second of two is taken unless it has more to do.
            chosen = group[attempt.peer]
            fuller = [i for i in free if group[i].conns * chosen.peer.weight >= chosen.conns * group[i].peer.weight]
            self._places = [*(i for i in fuller if i != attempt.peer), attempt.peer][-2:]
            self._places += [attempt.peer] * MOST_SKIPS
        self._weights = [p.peer.weight for p in group]

    def randrange(self, _stop):
        return sum(self._weights[: self._places.pop(0) if self._places else 0])


def first_difference(trial, settings):
    """Return how the model first differs from nginx in a trial, or ``None``."""
    state, under_way = Watched(trial.peers, settings, Dice()), {}
    for _, number, n, is_release in trial.events():
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
    if state.settings.balance.startswith("random"):
        state.draw.throw_as_nginx(state, request, attempt)
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
    assert outcomes["error", True]
    assert {trial.settings.balance for trial in trials} == set(BALANCES)
    shared = [trial for trial in trials if trial.settings.zone and len({r.worker for r in trial.requests}) > 1]
    apart = [trial for trial in trials if not trial.settings.zone and len({r.worker for r in trial.requests}) > 1]
    assert shared
    assert apart


def test_nginx_tells_of_tries_what_the_peers_did(trials):
    """Whatever a peer does, it may be too late on a busy machine."""
    become = {"slow": "ok", "leave": "ok", "close": "error", "reset": "error", "silent": "timeout"}
    told = [attempt for _, _, attempt in tries_of(trials) if attempt.did and attempt.outcome != "timeout"]
    assert [a for a in told if a.outcome != become.get(a.did, a.did)] == []
    assert told
    assert {attempt.outcome for attempt in told}.isdisjoint({"refused", "connect_timeout", "no_live"})


def test_a_pooled_connection_that_fails_costs_no_try_but_is_a_failure(trials):
    seen = Counter()
    for _, request, attempt in tries_of(trials):
        if attempt.cached and attempt.outcome == "error":
            assert attempt.failed
            later = request.tries[request.tries.index(attempt) + 1 :]
            seen[request.method in NON_IDEMPOTENT_METHODS, bool(later)] += 1
    assert seen[False, True], "what may be repeated goes on"
    assert seen[True, False], "what may not ends"


def test_the_trials_would_show_other_settings(trials):
    """What another version refuses is left out."""
    changes = [
        *({"version": version} for version in ((1, 7, 4), (1, 9, 12), (1, 11, 4), (1, 19, 5))),
        *({"buffering": True}, {"buffering": False}, {"zone": True}, {"zone": False}, {"tries": 0}, {"timeout_s": 0}),
    ]

    def shows(trial, change):
        version, settings = change.get("version", trial.settings.version), trial.settings
        if version < (1, 11, 5) and any(peer.max_conns for peer in trial.peers):
            return False
        if version < (1, 7, 5) and (settings.tries or settings.timeout_s):
            return False
        return first_difference(trial, replace(settings, **change)) is not None

    assert [change for change in changes if not any(shows(trial, change) for trial in trials)] == []


def test_the_trials_would_show_other_peers(trials):
    changes = {
        "a later probe": lambda peer: replace(peer, fail_timeout_s=peer.fail_timeout_s + 1),
        "an earlier probe": lambda peer: replace(peer, fail_timeout_s=peer.fail_timeout_s - 1),
        "more patience": lambda peer: replace(peer, max_fails=peer.max_fails + 1),
        "no end of patience": lambda peer: replace(peer, max_fails=0),
        "room for all": lambda peer: replace(peer, max_conns=0),
        "nothing down": lambda peer: replace(peer, down=False),
        "equal weights": lambda peer: replace(peer, weight=1),
    }

    def shows(trial, change):
        return first_difference(replace(trial, peers=tuple(map(change, trial.peers))), trial.settings) is not None

    assert [name for name, change in changes.items() if not any(shows(trial, change) for trial in trials)] == []


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 6))
def test_other_trials_come_out_alike_too(seed, tmp_path):
    if reason := why_not():
        pytest.skip(f"no trials of nginx: {reason}")
    trials = run_trials(seed, N_TRIALS, tmp_path / "nginx")
    assert [found for trial in trials if (found := first_difference(trial, trial.settings))] == []
