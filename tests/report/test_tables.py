"""Readable tables: endpoints, words, texts and 1-based frames, with the numbers as exact as they were."""

import numpy as np

from pcapdiag.base.codes import ClosingKind, ConnState, Direction, ExchangeFlag, Fate, FrameKind, Outcome, TcpFlag
from pcapdiag.base.columns import CONNECTIONS, EXCHANGES, FRAMES, SEGMENTS
from pcapdiag.base.tables import Table
from pcapdiag.engine.capture.batch import Capture
from pcapdiag.report.tables import FrameNumbers, TableBuilder, frames_frame
from tests.report import builders

TARGET, HOST, REQUEST_ID = b"/a?token=secret", b"api.example", b"id-\xff"


def exchange_tables(**changes):
    rows = builders.exchange_rows(2)
    rows["text_offset"] = [0, -1]
    rows["target_len"], rows["host_len"], rows["request_id_len"] = [15, 0], [11, 0], [4, 0]
    for name, value in changes.items():
        rows[name] = value
    return builders.analysis(exchanges=Table(EXCHANGES, rows), texts=builders.texts_of(TARGET, HOST, REQUEST_ID))


def test_an_exchange_shows_endpoints_words_and_exact_gaps():
    (frame,) = TableBuilder(exchange_tables(flags=ExchangeFlag.LATE_ANSWER | ExchangeFlag.HOLE)).exchanges()
    row = frame.iloc[0]
    assert (row["orig"], row["resp"], row["method"], row["outcome"]) == (
        builders.ORIG,
        builders.RESP,
        "GET",
        "unanswered",
    )
    assert row["idle_before_ns"] == 3_877_202_000
    assert (row["request_frame"], row["response_frame"], row["capture"]) == (106, -1, "proxy.pcap")
    assert row["request_ts"] == "2026-11-20T23:55:56.886114000Z"
    assert row["flags"] == "late_answer,hole"
    assert row["uid"].endswith(f"@{builders.T0}")


def test_target_host_and_request_id_come_from_the_text_store():
    (frame,) = TableBuilder(exchange_tables(), redact=False).exchanges()
    assert frame.loc[0, ["target", "host", "request_id"]].tolist() == ["/a?token=secret", "api.example", "id-\\xff"]
    assert frame.loc[1, ["target", "host", "request_id"]].tolist() == ["", "", ""]


def test_targets_are_redacted_unless_asked():
    (frame,) = TableBuilder(exchange_tables()).exchanges()
    assert frame.loc[0, "target"] == "/a?token=***"


def test_no_exchanges_are_an_empty_table_with_all_columns():
    analysis = builders.analysis(exchanges=Table(EXCHANGES, EXCHANGES.empty()))
    (frame,) = TableBuilder(analysis).exchanges()
    assert len(frame) == 0
    assert {"idle_before_ns", "target", "outcome"} <= set(frame.columns)


def closed_connections():
    rows = builders.connection_rows(2)
    rows["closing_kind"] = [ClosingKind.NONE, ClosingKind.FIN]
    rows["first_closer"] = [Direction.NONE, Direction.RESP]
    rows["closing_frame"] = [-1, 41]
    rows["idle_at_close_ns"] = [-1, 4_000_000_001]
    rows["conn_state"] = [ConnState.S1, ConnState.S3]
    rows["resp_hi"][1], rows["resp_lo"][1] = 0x2001_0DB8_0000_0000, 1
    return builders.analysis(connections=Table(CONNECTIONS, rows), legs=np.array([1, 0], dtype=np.int8))


def test_a_connection_shows_state_and_history_with_words_beside_them():
    frame = TableBuilder(closed_connections()).connections()
    assert frame["conn_state"].tolist() == ["S1", "S3"]
    assert frame["conn_state_words"].tolist() == ["opened, not closed", "opened, closed by the responder only (FIN)"]
    assert frame["history"].tolist() == ["ShADad"] * 2
    assert frame.loc[0, "history_words"] == "> SYN, < SYN-ACK, > ACK, > data, < ACK, < data"
    assert frame["leg"].tolist() == ["upstream", "unknown"]
    assert frame["resp"].tolist() == ["10.1.1.2:80", "[2001:db8::1]:80"]


def test_closings_are_the_connections_that_were_closed():
    frame = TableBuilder(closed_connections()).closings()
    assert frame[["conn", "closing_frame", "first_closer", "closing_kind", "idle_at_close_ns"]].values.tolist() == [
        [1, 42, "resp", "FIN", 4_000_000_001]
    ]


def test_a_segment_shows_where_it_went():
    rows = SEGMENTS.empty(2)
    rows["dir"] = [Direction.ORIG, Direction.RESP]
    rows["fate"] = [Fate.NEW, Fate.SPURIOUS_RETRANSMISSION]
    rows["flags"] = [TcpFlag.SYN, TcpFlag.FIN | TcpFlag.ACK]
    (frame,) = TableBuilder(builders.analysis()).segments(Table(SEGMENTS, rows))
    assert frame["src"].tolist() == [builders.ORIG, builders.RESP]
    assert frame["dst"].tolist() == [builders.RESP, builders.ORIG]
    assert frame["fate"].tolist() == ["new", "spurious retransmission"]
    assert frame["flags"].tolist() == ["SYN", "FIN,ACK"]
    assert frame["frame"].tolist() == [1, 1]


def test_frames_number_from_one_in_each_file():
    numbers = FrameNumbers(
        [
            Capture([builders.capture_file(path="a", n_frames=3), builders.capture_file(path="b", first_frame=3)]),
            Capture([builders.capture_file(path="c\udcff")]),
        ]
    )
    paths, frames = numbers.number(np.array([0, 0, 0, 1, 0]), np.array([0, 2, 3, 3, -1]))
    assert paths.tolist() == ["a", "a", "b", "c\\xff", ""]
    assert frames.tolist() == [1, 3, 1, 4, -1]


def test_a_frame_that_is_not_ip_has_no_endpoints():
    rows = FRAMES.empty(2)
    rows["kind"] = [FrameKind.NON_IP, FrameKind.TCP]
    rows["src_port"] = rows["dst_port"] = [-1, 80]
    rows["src_lo"] = rows["dst_lo"] = [0, 0xFFFF_0A01_0102]
    frame = frames_frame(rows, 0, FrameNumbers([Capture([builders.capture_file()])]))
    assert frame["src"].tolist() == ["", "10.1.1.2:80"]
    assert frame["kind"].tolist() == ["not IP", "TCP"]


def test_every_outcome_has_words_of_its_own():
    rows = builders.exchange_rows(len(Outcome))
    rows["outcome"] = list(Outcome)
    (frame,) = TableBuilder(builders.analysis(exchanges=Table(EXCHANGES, rows))).exchanges()
    assert frame["outcome"].nunique() == len(Outcome)
