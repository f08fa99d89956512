"""Settings as they are asked for: ``key=value``, read, checked, and put in place of those of a group."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import UsageError
from pcapdiag.base.suggest import did_you_mean
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
        msg = f"a scenario needs key=value; the keys are {_list_keys()}"
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
    is_time = KEYS[_name_of(key)].value == _DURATION
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
        if settings.version < known.since and settings.version > (0, 0, 0):
            have, need = (".".join(map(str, v)) for v in (settings.version, known.since))
            msg = f"{key}: nginx has it since {need}, this one is {have}"
            raise UsageError(msg)
        if not settings.is_picked and known.name in _NEEDS_PICKING:
            msg = f"{key}: how peers are picked is known from the configuration only; give --proxy-conf"
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
        msg = f"{text!r} is no key=value; the keys are {_list_keys()}"
        raise UsageError(msg)
    if _name_of(key) not in KEYS:
        msg = f"{key} is no key; the keys are {_list_keys()}{did_you_mean(key, KEYS)}"
        raise UsageError(msg)
    if is_checked:
        KEYS[_name_of(key)].apply(_BLANK, text)
    return key, value


def _name_of(key: str) -> str:
    """Return what a key is listed as; "" for a weight of nothing."""
    if key in {"weight", "weight."}:
        return ""
    return "weight" if key.startswith("weight.") else key


def _list_keys() -> str:
    return ", ".join("weight.ADDRESS:PORT" if name == "weight" else name for name in KEYS)


_BLANK = GroupSettings(())
_DURATION = "a time such as 5s or 300ms"
_WHOLE = "a whole number"


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
    if "non_idempotent" in conditions and (0, 0, 0) < settings.version < (1, 9, 13):
        msg = "next_upstream=non_idempotent: nginx has it since 1.9.13, and tried all requests again before"
        raise UsageError(msg)
    if "http_429" in conditions and (0, 0, 0) < settings.version < (1, 11, 13):
        msg = "next_upstream=http_429: nginx has it since 1.11.13"
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
    if (0, 0, 0) < settings.version < since:
        msg = f"balance={value}: nginx has it since {'.'.join(map(str, since))}"
        raise UsageError(msg)
    if value in _WITHOUT_BACKUP and any(peer.is_backup for peer in settings.peers):
        msg = f"balance={value}: nginx's {value} knows no backup servers, and there are some"
        raise UsageError(msg)
    return replace(settings, balance=value)


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
        SettingKey("fail_timeout", _DURATION, _fail_timeout),
        SettingKey("max_conns", _WHOLE, _max_conns, (1, 11, 5)),
        SettingKey("backup", "an address with its port", _backup),
        SettingKey("next_upstream", "conditions, with commas between", _next_upstream),
        SettingKey("next_upstream_tries", _WHOLE, _counted("tries"), (1, 7, 5)),
        SettingKey("next_upstream_timeout", _DURATION, _timed("next_timeout_ns"), (1, 7, 5)),
        SettingKey("zone", "on or off", _zone, (1, 9, 0)),
        SettingKey("balance", "round_robin, least_conn, ...", _balance),
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
