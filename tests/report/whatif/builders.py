"""What-ifs to be told."""

from pcapdiag.base.scenarios import AddedLatency, Quantity, Recommendation, ReplayModel, Scenario, WhatIf, WorkerCount


def scenario(name, failed, lost, opened=40, settings=None, **others):
    """Return a scenario; a number is exact, a tuple low, expected and high."""

    def quantity(value):
        return Quantity(*value) if isinstance(value, tuple) else Quantity(value, value, value)

    return Scenario(
        name=name,
        settings=settings or {},
        client_failures=None if failed is None else quantity(failed),
        client_502=None if failed is None else quantity(failed),
        client_504=quantity(0),
        lost_tries=None if lost is None else quantity(lost),
        retried=quantity(1),
        no_live_upstreams=quantity(0),
        connections_opened=quantity(opened),
        idle_connections_max=quantity(3),
        time_wait_max=quantity(0),
        reuse_ratio=quantity(0.5),
        added_latency_ns=AddedLatency(quantity(1_000_000), quantity(2_000_000)),
        **others,
    )


OBSERVED = scenario("observed", 12, 11)
REPLAYED = scenario("replayed", (11, 12.6, 15), (10, 10.8, 13))
MODEL = ReplayModel(
    WorkerCount(1, "nginx.conf:1"), 7, 200, ("1 worker process (nginx.conf:1)",), (3_840_000_000, 4_010_000_000)
)
KEY = "proxy.keepalive_timeout"


def whatif(*asked, swept=(), **others):
    """Return a what-if with these scenarios; `swept` are values of the proxy's timeout and what is lost there."""
    points = [scenario(f"{KEY}={value}", lost, lost, settings={KEY: value}) for value, lost in swept]
    return WhatIf(
        (OBSERVED, REPLAYED, *asked, *points),
        MODEL,
        sweep=KEY if points else "",
        first_swept=2 + len(asked) if points else -1,
        **others,
    )


def recommended(settings, *tried, **others):
    return whatif(recommendation=Recommendation(settings, tried=tried, **others))
