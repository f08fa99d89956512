"""Settings as they are asked for: ``key=value``, read, checked, and put in place of those of a group."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import UsageError
from pcapdiag.base.suggest import did_you_mean, nearest
from pcapdiag.base.units import NS_PER_MS, NS_PER_S, format_duration_ns, parse_duration, parse_endpoint
from pcapdiag.whatif.group import BALANCES, GroupSettings, Peer
from pcapdiag.whatif.replay import NEXT_UPSTREAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


MOST_POINTS: Final = 1000
LONGEST_NS: Final = 365 * 86_400 * NS_PER_S
_MOST: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class SettingKey:
    """One key: what its value is, what it does to a group, since which nginx there is such a setting."""

    name: str
    value: str
    apply: Callable[[GroupSettings, str], GroupSettings]
    since: tuple[int, int, int] = (0, 0, 0)

    @property
    def form(self) -> str:
        """As it is written."""
        return f"{'weight.ADDRESS:PORT' if self.name == 'weight' else self.name}={self.value}"


@dataclass(frozen=True, slots=True)
class Asked:
    """The settings of one scenario, as they were asked for, in their order."""

    settings: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """As they were written."""
        return " ".join(f"{key}={value}" for key, value in self.settings)


def parse_case(text: str) -> Asked:
    """Read the settings of one scenario.

    Parameters
    ----------
    text : str
        ``key=value key=value``.

    Returns
    -------
    Asked

    Raises
    ------
    UsageError
        A key is not known or a value is impossible; the message lists what there is.
    """
    settings = tuple(_split(part) for part in text.split())
    if not settings:
        msg = f"a scenario needs key=value; {_forms()}"
        raise UsageError(msg)
    for key, n in Counter(key for key, _ in settings if key != "backup").items():
        if n > 1:
            msg = f"{text}: {key} is given {n} times; one scenario has one value of it"
            raise UsageError(msg)
    return Asked(settings)


def parse_sweep(text: str) -> tuple[str, list[Asked]]:
    """Read ``key=a:b:step``.

    Returns
    -------
    tuple of (str, list of Asked)
        The key, and a scenario per point; the last is at most `b`.

    Raises
    ------
    UsageError
        It has another form, or too many points.
    """
    key, value = _split(text, is_checked=False)
    parts = value.split(":")
    form = "a sweep is key=from:to:step, such as proxy.keepalive_timeout=1s:10s:500ms"
    if len(parts) != 3:
        msg = f"--sweep {text}: {form}"
        raise UsageError(msg)
    form_of_value = KEYS[_name_of(key)].value
    if form_of_value not in _ON_A_SCALE:
        can = _forms(name for name, known in KEYS.items() if known.value in _ON_A_SCALE)
        msg = f"--sweep {text}: {KEYS[_name_of(key)].form} has no values from one to another; {can}"
        raise UsageError(msg)
    is_time = form_of_value != _WHOLE
    read = _duration if is_time else _whole
    low, high, step = (read(key, part) for part in parts)
    if step <= 0 or high < low:
        why = "the step must be above 0" if step <= 0 else "it must not end before it begins"
        msg = f"--sweep {text}: {why}; {form}"
        raise UsageError(msg)
    n = (high - low) // step + 1
    if n > MOST_POINTS:
        msg = f"--sweep {text}: {n} points; at most {MOST_POINTS}, so take larger steps"
        raise UsageError(msg)
    values = [low + i * step for i in range(n)]
    texts = [format_duration_ns(v).replace(" ", "") if is_time else str(v) for v in values]
    return key, [parse_case(f"{key}={text}") for text in texts]


def apply(asked: Asked, settings: GroupSettings) -> GroupSettings:
    """Return a group's settings with those that were asked for in their place.

    Raises
    ------
    UsageError
        The proxy's version has no such setting.
    """
    for key, value in asked.settings:
        known = KEYS[_name_of(key)]
        why = _why_not(known, settings)
        if why:
            there = _forms(name for name, other in KEYS.items() if not _why_not(other, settings))
            msg = f"{key}: {why}; {there}"
            raise UsageError(msg)
        settings = known.apply(settings, f"{key}={value}")
    return settings


def is_possible(asked: Asked, settings: GroupSettings) -> bool:
    """Tell whether a group can be set like that: an old nginx has no such setting, a hash knows no backup servers."""
    try:
        apply(asked, settings)
    except UsageError:
        return False
    return True


def check_addresses(asked: Iterable[Asked], groups: Sequence[GroupSettings]) -> None:
    """Refuse addresses that are no server of any group.

    Raises
    ------
    UsageError
        With the list of those that are.
    """
    known = [peer.endpoint for settings in groups for peer in settings.peers]
    for one in asked:
        for key, value in one.settings:
            name = _name_of(key)
            address = key.removeprefix("weight.") if name == "weight" else value if name == "backup" else ""
            if address and not address.startswith("+") and address not in known:
                msg = f"{key}={value}: no server {address}; there are {', '.join(known)}"
                raise UsageError(msg)


def _split(text: str, *, is_checked: bool = True) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not value:
        msg = f"{text!r} is no key=value; {_forms()}"
        raise UsageError(msg)
    if _name_of(key) not in KEYS:
        meant = nearest(key, KEYS)
        msg = f"{key} is no key; {_forms()}{f'; did you mean {KEYS[meant].form}?' if meant else ''}"
        raise UsageError(msg)
    if is_checked:
        KEYS[_name_of(key)].apply(_BLANK, text)
    return key, value


def _name_of(key: str) -> str:
    """Return what a key is listed as; "" for a weight of nothing."""
    if key in {"weight", "weight."}:
        return ""
    return "weight" if key.startswith("weight.") else key


def _forms(names: Iterable[str] | None = None) -> str:
    """List keys, with the forms of their values; all if none are named."""
    return f"there are {', '.join(KEYS[name].form for name in (KEYS if names is None else names))}"


_BLANK = GroupSettings(())
_DURATION: Final = "TIME"
"""A value such as 5s or 300ms."""
_WHOLE: Final = "NUMBER"
_SECONDS: Final = "SECONDS"
_ON_A_SCALE: Final = frozenset({_DURATION, _WHOLE, _SECONDS})


def _duration(key: str, text: str) -> int:
    try:
        ns = parse_duration(text)
    except ValueError as error:
        msg = f"{key}: {error}"
        raise UsageError(msg) from None
    if ns and not NS_PER_MS <= ns <= LONGEST_NS:
        msg = f"{key}={text}: 0, or from 1 ms, nginx's own unit, to 365 days"
        raise UsageError(msg)
    return ns


def _whole(key: str, text: str, least: int = 0) -> int:
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(_MOST))
    if not is_number or not least <= int(text) <= _MOST:
        msg = f"{key}={text}: a whole number from {least} to {_MOST}"
        raise UsageError(msg)
    return int(text)


def _timed(field: str) -> Callable[[GroupSettings, str], GroupSettings]:
    def put(settings: GroupSettings, text: str) -> GroupSettings:
        key, _, value = text.partition("=")
        changes: dict[str, object] = {field: _duration(key, value)}
        return replace(settings, **changes)  # type: ignore[arg-type]

    return put


def _counted(field: str) -> Callable[[GroupSettings, str], GroupSettings]:
    def put(settings: GroupSettings, text: str) -> GroupSettings:
        key, _, value = text.partition("=")
        changes: dict[str, object] = {field: _whole(key, value)}
        return replace(settings, **changes)  # type: ignore[arg-type]

    return put


def _each_peer(settings: GroupSettings, change: Callable[[Peer], Peer]) -> GroupSettings:
    return replace(settings, peers=tuple(change(peer) for peer in settings.peers))


def _max_fails(settings: GroupSettings, text: str) -> GroupSettings:
    n = _whole("max_fails", text.partition("=")[2])
    return _each_peer(settings, lambda peer: replace(peer, max_fails=n))


def _fail_timeout(settings: GroupSettings, text: str) -> GroupSettings:
    value = text.partition("=")[2]
    ns = _duration("fail_timeout", value)
    if ns % NS_PER_S:
        msg = f"fail_timeout={value}: nginx counts it in whole seconds"
        raise UsageError(msg)
    return _each_peer(settings, lambda peer: replace(peer, fail_timeout_s=ns // NS_PER_S))


def _max_conns(settings: GroupSettings, text: str) -> GroupSettings:
    n = _whole("max_conns", text.partition("=")[2])
    return _each_peer(settings, lambda peer: replace(peer, max_conns=n))


def _backup(settings: GroupSettings, text: str) -> GroupSettings:
    address = text.partition("=")[2]
    name = address.removeprefix("+")
    try:
        parse_endpoint(name)
    except ValueError:
        msg = f"backup={address}: an address with its port, or + before it to add one"
        raise UsageError(msg) from None
    if settings.balance in _WITHOUT_BACKUP:
        msg = f"backup={address}: nginx's {settings.balance} knows no backup servers"
        raise UsageError(msg)
    if address.startswith("+"):
        known = next((peer for peer in settings.peers if peer.endpoint == name), Peer(name, -1))
        return replace(settings, peers=(*settings.peers, replace(known, is_backup=True)))
    if settings.peers and all(peer.is_backup or peer.endpoint == name for peer in settings.peers):
        msg = f"backup={address}: nginx wants a server that is no backup; backup=+{name} adds the same one once more"
        raise UsageError(msg)
    return _each_peer(settings, lambda peer: replace(peer, is_backup=True) if peer.endpoint == name else peer)


def _weight(settings: GroupSettings, text: str) -> GroupSettings:
    key, _, value = text.partition("=")
    name = key.removeprefix("weight.")
    weight = _whole(key, value, 1)
    return _each_peer(settings, lambda peer: replace(peer, weight=weight) if peer.endpoint == name else peer)


def _next_upstream(settings: GroupSettings, text: str) -> GroupSettings:
    value = text.partition("=")[2]
    conditions = frozenset(value.replace("|", ",").split(","))
    unknown = sorted(conditions - set(NEXT_UPSTREAM))
    if unknown:
        msg = f"next_upstream={value}: no condition {unknown[0]!r}; there are {', '.join(NEXT_UPSTREAM)}"
        msg += did_you_mean(unknown[0], NEXT_UPSTREAM)
        raise UsageError(msg)
    for condition in sorted(conditions):
        since = _CONDITION_SINCE.get(condition, ())
        if _is_older(settings, since):
            there = ", ".join(c for c in NEXT_UPSTREAM if not _is_older(settings, _CONDITION_SINCE.get(c, ())))
            also = " and tries all requests again" if condition == "non_idempotent" else ""
            msg = f"next_upstream={condition}: {_too_old(settings, since)}{also}; there are {there}"
            raise UsageError(msg)
    return replace(settings, next_upstream=conditions)


def _zone(settings: GroupSettings, text: str) -> GroupSettings:
    value = text.partition("=")[2]
    if value not in ("on", "off"):
        msg = f"zone={value}: on or off"
        raise UsageError(msg)
    return replace(settings, has_zone=value == "on")


def _balance(settings: GroupSettings, text: str) -> GroupSettings:
    value = text.partition("=")[2].replace("_two", " two")
    if value not in BALANCES:
        msg = f"balance={value}: one of {', '.join(b.replace(' ', '_') for b in BALANCES)}"
        raise UsageError(msg)
    since = _BALANCE_SINCE[value]
    if _is_older(settings, since):
        there = ", ".join(b.replace(" ", "_") for b in BALANCES if not _is_older(settings, _BALANCE_SINCE[b]))
        msg = f"{text}: {_too_old(settings, since)}; there are {there}"
        raise UsageError(msg)
    if value in _WITHOUT_BACKUP and any(peer.is_backup for peer in settings.peers):
        msg = f"balance={value}: nginx's {value} knows no backup servers, and there are some"
        raise UsageError(msg)
    return replace(settings, balance=value)


def _why_not(known: SettingKey, settings: GroupSettings) -> str:
    """Say why a group cannot be set like that, whatever the value; "" if it can."""
    if _is_older(settings, known.since):
        return _too_old(settings, known.since)
    if not settings.is_picked and known.name in _NEEDS_PICKING:
        return "how peers are picked is known from the configuration only, so give --proxy-conf"
    if settings.is_lua and known.name in _OF_NGINX:
        return "peers are picked in Lua here, which has no such setting"
    return ""


def _is_older(settings: GroupSettings, since: tuple[int, ...]) -> bool:
    return (0, 0, 0) < settings.version < since


def _too_old(settings: GroupSettings, since: tuple[int, ...]) -> str:
    need, have = (".".join(map(str, version)) for version in (since, settings.version))
    return f"nginx has it since {need}, this one is {have}"


_CONDITION_SINCE: Final[dict[str, tuple[int, ...]]] = {"non_idempotent": (1, 9, 13), "http_429": (1, 11, 13)}
_WITHOUT_BACKUP: Final = frozenset({"ip_hash", "hash", "random", "random two"})
_BALANCE_SINCE: Final = {
    "round_robin": (0, 0, 0),
    "least_conn": (1, 2, 2),
    "ip_hash": (0, 0, 0),
    "hash": (1, 7, 2),
    "random": (1, 15, 1),
    "random two": (1, 15, 1),
}


KEYS: Final = {
    key.name: key
    for key in (
        SettingKey("proxy.keepalive_timeout", _DURATION, _timed("keepalive_timeout_ns"), (1, 15, 3)),
        SettingKey("proxy.keepalive", _WHOLE, _counted("keepalive"), (1, 1, 4)),
        SettingKey("proxy.keepalive_requests", _WHOLE, _counted("keepalive_requests"), (1, 15, 3)),
        SettingKey("proxy.keepalive_time", _DURATION, _timed("keepalive_time_ns"), (1, 19, 10)),
        SettingKey("upstream.keepalive_timeout", _DURATION, _timed("upstream_timeout_ns")),
        SettingKey("max_fails", _WHOLE, _max_fails),
        SettingKey("fail_timeout", _SECONDS, _fail_timeout),
        SettingKey("max_conns", _WHOLE, _max_conns, (1, 11, 5)),
        SettingKey("backup", "[+]ADDRESS:PORT", _backup),
        SettingKey("next_upstream", "CONDITION,...", _next_upstream),
        SettingKey("next_upstream_tries", _WHOLE, _counted("tries"), (1, 7, 5)),
        SettingKey("next_upstream_timeout", _DURATION, _timed("next_timeout_ns"), (1, 7, 5)),
        SettingKey("zone", "on|off", _zone, (1, 9, 0)),
        SettingKey("balance", "|".join(name.replace(" ", "_") for name in BALANCES), _balance),
        SettingKey("weight", _WHOLE, _weight),
    )
}
"""By name; ``weight`` stands for ``weight.ADDRESS:PORT``."""

_NEEDS_PICKING: Final = frozenset(
    {
        "max_fails",
        "fail_timeout",
        "max_conns",
        "backup",
        "next_upstream",
        "next_upstream_tries",
        "zone",
        "balance",
        "weight",
    }
)
"""Names of keys."""

_OF_NGINX: Final = frozenset({"max_fails", "fail_timeout", "max_conns", "backup", "zone", "balance"})
"""Names of keys of what nginx's own balancers do."""
