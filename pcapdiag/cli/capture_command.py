"""``pcapdiag capture-command``: the tcpdump line for the next capture, and the log settings that go with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pcapdiag.cli.declare import OptionPlace, option

if TYPE_CHECKING:
    from collections.abc import Sequence

_UPSTREAM: dict[str, Any] = {"multiple": True, "metavar": "ADDR[:PORT]"}


@click.command("capture-command")
@option(
    "--proxy-conf",
    help="Configuration of the proxy, for its upstreams and what its logs lack.",
    default="",
    metavar="FILE",
    type=click.Path(),
)
@option(
    "--upstream",
    "upstreams",
    place=OptionPlace.ANY_FILE,
    help="An upstream that it does not name; repeat for several.",
    **_UPSTREAM,
)
def capture_command(*, proxy_conf: str, upstreams: Sequence[str]) -> None:
    """Print how to capture what decides the next incident.

    The command rings through 2 GB and takes headers and request lines of the upstreams that the configuration names,
    with ICMP. Remarks and log settings are comments, so that all of it can be pasted.

    \b
      pcapdiag capture-command --proxy-conf /etc/nginx/nginx.conf
      pcapdiag capture-command --upstream 10.1.1.1:8080 --upstream 10.1.1.2:8080
    """  # noqa: D301 - click reads the character \b
    from pcapdiag.analysis.inputs import Inputs  # noqa: PLC0415 - help must not wait for it
    from pcapdiag.privacy.escape import visible  # noqa: PLC0415
    from pcapdiag.proxy.conf.read import read_proxy_conf  # noqa: PLC0415
    from pcapdiag.triage.capture import advise_capture  # noqa: PLC0415

    inputs = Inputs(upstreams=tuple(upstreams))
    advice = advise_capture(read_proxy_conf(proxy_conf) if proxy_conf else None, inputs.upstream_endpoints)
    lines = [*(f"# {remark}" for remark in advice.remarks), *advice.command]
    if advice.log_remark:
        lines += ["", f"# {advice.log_remark}", *(f"#   {line}" for line in advice.log_settings)]
    click.echo("\n".join(map(visible, lines)))
