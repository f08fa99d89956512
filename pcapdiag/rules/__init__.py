"""The registry: every rule, in report order. Codes are never reused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.rules.pd101_idle_close_race import IdleCloseRace
from pcapdiag.rules.pd102_reuse_after_fin import ReuseAfterFin
from pcapdiag.rules.pd103_idle_close_race_in_server import IdleCloseRaceInServer
from pcapdiag.rules.pd104_silent_drop_on_reuse import SilentDropOnReuse
from pcapdiag.rules.pd105_middlebox_reset_on_reuse import MiddleboxResetOnReuse
from pcapdiag.rules.pd106_reset_on_reuse import ResetOnReuse
from pcapdiag.rules.pd107_request_limit_close import RequestLimitClose
from pcapdiag.rules.pd108_mass_close import MassClose
from pcapdiag.rules.pd109_early_eviction import EarlyEviction
from pcapdiag.rules.pd110_idle_close_risk import IdleCloseRisk
from pcapdiag.rules.pd201_close_before_response import CloseBeforeResponse
from pcapdiag.rules.pd202_reset_before_response import ResetBeforeResponse
from pcapdiag.rules.pd203_truncated_response import TruncatedResponse
from pcapdiag.rules.pd204_slow_upstream import SlowUpstream
from pcapdiag.rules.pd205_upstream_not_reading import UpstreamNotReading
from pcapdiag.rules.pd206_proxy_abort import ProxyAbort
from pcapdiag.rules.pd207_close_during_upload import CloseDuringUpload
from pcapdiag.rules.pd208_upgraded_connection_ended import UpgradedConnectionEnded
from pcapdiag.rules.pd301_connect_refused import ConnectRefused
from pcapdiag.rules.pd302_connect_timeout import ConnectTimeout
from pcapdiag.rules.pd303_accept_queue_overflow import AcceptQueueOverflow
from pcapdiag.rules.pd304_tls_handshake_failure import TlsHandshakeFailure
from pcapdiag.rules.pd305_connect_unreachable import ConnectUnreachable
from pcapdiag.rules.pd401_oversized_response_head import OversizedResponseHead
from pcapdiag.rules.pd402_invalid_response import InvalidResponse
from pcapdiag.rules.pd403_upstream_error_response import UpstreamErrorResponse
from pcapdiag.rules.pd404_goaway_race import GoawayRace
from pcapdiag.rules.pd501_path_loss import PathLoss
from pcapdiag.rules.pd502_mtu_black_hole import MtuBlackHole
from pcapdiag.rules.pd601_no_live_upstreams import NoLiveUpstreams
from pcapdiag.rules.pd602_pool_too_small import PoolTooSmall
from pcapdiag.rules.pd603_no_connection_reuse import NoConnectionReuse
from pcapdiag.rules.pd901_retried_failure import RetriedFailure
from pcapdiag.rules.pd902_failure_outside_capture import FailureOutsideCapture
from pcapdiag.rules.pd999_undetermined import Undetermined

if TYPE_CHECKING:
    from pcapdiag.rules._rule import Rule

RULES: tuple[type[Rule], ...] = (
    IdleCloseRace,
    ReuseAfterFin,
    IdleCloseRaceInServer,
    SilentDropOnReuse,
    MiddleboxResetOnReuse,
    ResetOnReuse,
    RequestLimitClose,
    MassClose,
    EarlyEviction,
    IdleCloseRisk,
    CloseBeforeResponse,
    ResetBeforeResponse,
    TruncatedResponse,
    SlowUpstream,
    UpstreamNotReading,
    ProxyAbort,
    CloseDuringUpload,
    UpgradedConnectionEnded,
    ConnectRefused,
    ConnectTimeout,
    AcceptQueueOverflow,
    TlsHandshakeFailure,
    ConnectUnreachable,
    OversizedResponseHead,
    InvalidResponse,
    UpstreamErrorResponse,
    GoawayRace,
    PathLoss,
    MtuBlackHole,
    NoLiveUpstreams,
    PoolTooSmall,
    NoConnectionReuse,
    RetriedFailure,
    FailureOutsideCapture,
    Undetermined,
)

__all__ = ["RULES"]
