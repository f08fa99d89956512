"""The compiled choice of peers does what a real nginx did, and what the plain model of it does."""

import importlib.util
import random
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.engine.compiler import policy
from pcapdiag.whatif.arrivals import ip_hash_key
from pcapdiag.whatif.group import BALANCES, GroupSettings, MeasuredUpstream, ServerGroup
from pcapdiag.whatif.group import Peer as GroupPeer
from pcapdiag.whatif.kernels import replay_pick, replay_random
from pcapdiag.whatif.kernels import replay_state as state
from pcapdiag.whatif.replay import Prepared
from tests.whatif.kernels.test_replay import ADDRESSES, arrivals, packed
from tests.whatif.plain_selection import Peer, Settings, State


def load_as_python(*modules):
    """Return the last of some modules of kernels as the Python that all are written in.

    Compiling them for records takes a minute. Compiled they are a part of `replay`, which `test_replay` holds against
    its twin.
    """
    loaded = {}
    with mock.patch.object(policy, "COMPILES", new=False), mock.patch.dict(sys.modules):
        for module in modules:
            spec = importlib.util.spec_from_file_location(module.__name__, module.__file__)
            sys.modules[module.__name__] = loaded[module] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded[module])
    return loaded[modules[-1]]


KERNELS = load_as_python(replay_random, replay_pick)
DETERMINED = {"round_robin", "least_conn", "ip_hash"}


class Compiled:
    """The kernels and the arrays that they work on, driven as `plain_selection.State` is."""

    def __init__(self, peers, settings, n_workers):
        names = [f"10.0.0.{n + 1}:80" for n in range(len(peers))]
        made = GroupSettings(
            peers=tuple(
                GroupPeer(
                    *(name, n, peer.weight, peer.max_fails, peer.fail_timeout_s, peer.max_conns, peer.backup, peer.down)
                )
                for n, (name, peer) in enumerate(zip(names, peers, strict=True))
            ),
            balance=settings.balance,
            workers=n_workers,
            has_zone=settings.zone,
            next_upstream=settings.next_upstream,
            tries=settings.tries,
            version=settings.version,
        )
        places = tuple(MeasuredUpstream(name) for name in names)
        group = ServerGroup("app", made, places, arrivals([(0, 0, {})], places))
        arrays = Prepared(group, made).arrays(1, 4, 0)
        arrays.peers["current"] = 0
        self.peers, self.row, self.random = arrays.peers, arrays.settings[0], arrays.random
        self.n_peers, self.has_zone = len(peers), settings.zone

    def begin(self, worker, key):
        """Return a slot, where its worker's peers begin, and what the balancer sees of the client."""
        slot = np.zeros(1, state.SLOT)
        slot["tries"], slot["hash"], slot["peer"] = self.row["tries"], 89, -1
        return slot[0], 0 if self.has_zone else worker * self.n_peers, key

    def pick(self, request, now_s):
        slot, first, key = request
        peer = int(KERNELS.pick_peer(self.peers, first, self.row, slot, np.int64(now_s), np.int64(key), self.random))
        return None if peer < 0 else peer

    def release(self, request, now_s, *, failed):
        slot, first, _ = request
        KERNELS.free_peer(self.peers, first, self.row, slot, np.int64(now_s), failed)

    def may_serve(self, request, peer, now_s):
        slot, first, _ = request
        row = self.peers[first + peer]
        is_out = (
            row["max_fails"] and row["fails"] >= row["max_fails"] and now_s - row["checked_s"] <= row["fail_timeout_s"]
        )
        is_full = row["max_conns"] and row["conns"] >= row["max_conns"]
        return not (row["is_down"] or is_out or is_full or int(slot["tried"]) >> peer & 1)


def first_difference(trial):
    """Return how the kernels first differ from nginx in a trial, or None."""
    workers = sorted({request.worker for request in trial.requests})
    compiled = Compiled(trial.peers, trial.settings, len(workers))
    under_way = {}
    for _, number, n, is_release in trial.events():
        asked = trial.requests[number]
        attempt = asked.tries[n]
        if n == 0 and not is_release:
            key = ip_hash_key(".".join(map(str, asked.key))) if trial.settings.balance == "ip_hash" else number
            under_way[number] = compiled.begin(workers.index(asked.worker), key)
        request = under_way[number]
        where = f"{trial.name}, request {number}, try {n}"
        if is_release:
            compiled.release(request, int(attempt.released_s), failed=attempt.failed)
            if attempt.cached and attempt.outcome == "error":
                request[0]["tries"] += 1
            # What was drawn in vain nginx leaves to round robin, which moves weights.
            if attempt.effective_weight is not None and trial.settings.balance in DETERMINED:
                effective = int(compiled.peers[request[1] + attempt.peer]["effective"])
                if effective != attempt.effective_weight:
                    return f"{where}: effective weight {effective}, nginx's {attempt.effective_weight}"
            continue
        tries = int(request[0]["tries"])
        if tries != attempt.tries_left:
            return f"{where}: {tries} tries left, nginx's {attempt.tries_left}"
        chosen = None if attempt.peer < 0 else attempt.peer
        if trial.settings.balance in DETERMINED:
            picked = compiled.pick(request, int(attempt.picked_s))
            if picked != chosen:
                return f"{where}: picked {picked}, nginx {chosen}"
        else:
            usable = [compiled.may_serve(request, peer, int(attempt.picked_s)) for peer in range(compiled.n_peers)]
            if (chosen is None and any(usable)) or (chosen is not None and not usable[chosen]):
                return f"{where}: nginx picked {chosen}, of those that may serve: {usable}"
            take(compiled, request, chosen, int(attempt.picked_s))
    return None


def take(compiled, request, peer, now_s):
    """Let nginx's choice be made, since that of a balancer with chance in it is not ours to make."""
    if peer is None:
        return
    slot, first, _ = request
    row = compiled.peers[first + peer]
    row["conns"] += 1
    slot["peer"] = peer
    if not compiled.row["is_single"]:
        slot["tried"] |= 1 << peer
        if now_s - row["checked_s"] > row["fail_timeout_s"]:
            row["checked_s"] = now_s


def test_the_kernels_pick_as_a_real_nginx_did(trials):
    differences = [found for trial in trials if (found := first_difference(trial))]
    assert differences == []
    assert {trial.settings.balance for trial in trials} == set(BALANCES)


VERSIONS = [(1, 22, 1), (1, 19, 5), (1, 11, 4), (1, 7, 4)]


@st.composite
def blocks(draw):
    balance = draw(st.sampled_from(["round_robin", "least_conn", "ip_hash", "random", "random two", "hash"]))
    n = draw(st.integers(1, 5))
    version = draw(st.sampled_from(VERSIONS))
    peers = [
        Peer(
            weight=draw(st.integers(1, 5)),
            max_fails=draw(st.integers(0, 3)),
            fail_timeout_s=draw(st.integers(1, 4)),
            backup=i > 0 and balance in {"round_robin", "least_conn"} and draw(st.booleans()),
            down=i > 0 and draw(st.integers(0, 4)) == 0,
            max_conns=draw(st.sampled_from([0, 0, 1, 2])) if version >= (1, 11, 5) else 0,
        )
        for i in range(n)
    ]
    tries = draw(st.sampled_from([0, 0, 1, 3])) if version >= (1, 7, 5) else 0
    return peers, Settings(version=version, balance=balance, zone=draw(st.booleans()), tries=tries)


@given(blocks(), st.randoms(use_true_random=False))
def test_the_kernels_pick_as_the_plain_model_does(block, chance: random.Random):
    peers, settings = block
    plain, compiled = State(peers, settings), Compiled(peers, settings, 2)
    under_way = []
    now_s = 1000
    for _ in range(60):
        now_s += chance.choice([0, 0, 0, 1, 2])
        if not under_way or chance.random() < 0.5:
            worker, address = chance.randrange(2), chance.choice(ADDRESSES)
            under_way.append(
                (
                    plain.begin(now_s, worker=worker, key=packed(address)),
                    compiled.begin(worker, ip_hash_key(address)),
                )
            )
            asked, request = under_way[-1]
        else:
            asked, request = under_way[chance.randrange(len(under_way))]
            failed = chance.random() < 0.5
            plain.release(asked, now_s, failed=failed)
            compiled.release(request, now_s, failed=failed)
            if not failed or not asked.tries:
                under_way.remove((asked, request))
                continue
        tried = set(asked.tried)
        if settings.balance in DETERMINED:
            picked, wanted = compiled.pick(request, now_s), plain.pick(asked, now_s)
            assert picked == wanted
        else:
            usable = {p.index for p in asked.groups[asked.group] if p.index not in tried and p.may_serve(now_s)}
            picked = compiled.pick(request, now_s)
            if len(peers) > 1:
                assert (picked in usable) if usable else picked is None
            follow(plain, asked, picked, now_s)
        assert int(request[0]["tries"]) == asked.tries
        if picked is None:
            under_way.remove((asked, request))


def follow(plain, asked, picked, now_s):
    """Let the model take the peer that the kernels drew."""
    live = None if picked is None else asked.groups[0][picked]
    plain._choose = lambda request, second: live and plain._take(request, live, second)
    plain._choose_single = lambda _request: live
    assert plain.pick(asked, now_s) == picked


@pytest.mark.parametrize(("balance", "share"), [("random", 0.75), ("random two", 0.25), ("hash", 0.75)])
def test_what_is_drawn_comes_in_the_proportion_of_the_weights(balance, share):
    """Of two that are as busy nginx takes the one that it drew second, and that is mostly the lighter one."""
    peers = [Peer(weight=1), Peer(weight=3)]
    compiled = Compiled(peers, Settings(balance=balance), 1)
    picked = []
    for key in range(2000):
        request = compiled.begin(0, key * 7919)
        picked.append(compiled.pick(request, 1000))
        compiled.release(request, 1000, failed=False)
    assert np.mean(picked) == pytest.approx(share, abs=0.05)
