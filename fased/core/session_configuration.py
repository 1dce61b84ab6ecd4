"""The `session` part of a configuration: scope, identity links, resets.

Decides its shape and its defaults; what they do is decided in `sessions.py`.
"""

from collections.abc import Mapping
from datetime import timedelta

from fased.core import fields, zones
from fased.core.findings import Finding
from fased.core.sessions import (
    DEFAULT_DAILY_HOUR,
    NO_RESET,
    DmScope,
    ResetPolicy,
    SessionKind,
    SessionPolicy,
)

_MAX_IDLE_MINUTES = 525_600  # a year
_SESSION_KEYS = ("dmScope", "identityLinks", "mainKey", "reset", "resetByType", "store")
_RESET_KEYS = ("mode", "atHour", "tz", "idleMinutes")
_RESET_MODES = ("", "daily", "idle", "none")
_IGNORED = {
    "mainKey": ("MAIN_KEY_IGNORED", "session.mainKey has no effect: the main key is always main."),
    "store": ("STORE_IGNORED", "session.store has no effect: sessions are rows of the database."),
}


def parse_session(value: object, warnings: list[Finding]) -> SessionPolicy:
    """The session policy; adds what is odd to `warnings`.

    Raises InvalidArgument naming the field for a wrong shape, an unknown zone or reset mode.
    """
    entry = fields.object_at(value, "session")
    warnings += fields.unknown_keys(entry, _SESSION_KEYS, "session")
    for key, (reason, message) in _IGNORED.items():
        if entry.get(key) is not None:
            warnings.append(Finding(reason, message, f"session.{key}"))
    links = fields.object_at(entry.get("identityLinks"), "session.identityLinks")
    return SessionPolicy(
        dm_scope=_scope(entry.get("dmScope"), warnings),
        identity_links={
            name: fields.texts_at(ids, f"session.identityLinks.{name}")
            for name, ids in links.items()
        },
        reset=_resets(entry, warnings),
    )


def _scope(value: object, warnings: list[Finding]) -> DmScope:
    scope = fields.text_at(value, "session.dmScope").strip()
    if scope in tuple(DmScope):
        return DmScope(scope)
    if scope:
        warnings.append(
            Finding(
                "UNKNOWN_DM_SCOPE",
                f"session.dmScope {scope[:40]!r} is not known and counts as main; "
                f"known are {', '.join(DmScope)}.",
                "session.dmScope",
            )
        )
    return DmScope.MAIN


def _resets(
    entry: Mapping[str, object], warnings: list[Finding]
) -> Mapping[SessionKind, ResetPolicy]:
    by_type = fields.object_at(entry.get("resetByType"), "session.resetByType")
    warnings += fields.unknown_keys(by_type, tuple(SessionKind), "session.resetByType")
    common = _reset(entry.get("reset"), "session.reset", warnings)
    policies = {
        kind: _reset(by_type[kind], f"session.resetByType.{kind}", warnings)
        if kind in by_type
        else common
        for kind in SessionKind
    }
    return {kind: policy for kind, policy in policies.items() if policy != NO_RESET}


def _reset(value: object, path: str, warnings: list[Finding]) -> ResetPolicy:
    """A reset as `{mode, atHour, tz, idleMinutes}`; without a mode the fields given say it.

    `daily` may have idle minutes beside it; `{}` is daily at 04:00 UTC, null is no reset.
    """
    if value is None:
        return NO_RESET
    entry = fields.object_at(value, path)
    warnings += fields.unknown_keys(entry, _RESET_KEYS, path)
    mode = fields.text_at(entry.get("mode"), f"{path}.mode").strip()
    if mode not in _RESET_MODES:
        raise fields.wrong_shape(f"{path}.mode", "daily, idle or none", mode)
    hour = fields.whole_at(entry.get("atHour"), f"{path}.atHour", 0, 23)
    idle = fields.whole_at(entry.get("idleMinutes"), f"{path}.idleMinutes", 1, _MAX_IDLE_MINUTES)
    zone = fields.text_at(entry.get("tz"), f"{path}.tz")
    if mode == "none":
        return NO_RESET
    if mode == "idle" and idle is None:
        raise fields.wrong_shape(f"{path}.idleMinutes", "a whole number with mode idle", idle)
    is_daily = mode == "daily" or (not mode and (hour is not None or idle is None))
    return ResetPolicy(
        daily_hour=(DEFAULT_DAILY_HOUR if hour is None else hour) if is_daily else None,
        zone=zones.find_zone(zone).key if is_daily else "UTC",
        idle=None if idle is None else timedelta(minutes=idle),
    )
