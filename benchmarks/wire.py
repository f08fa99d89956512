"""Segments and bytes of the benchmark capture: what a TCP stack does with given messages at given times.

Knows Ethernet, IPv4, TCP with timestamps and the pcap record; knows nothing of HTTP, of what the messages mean, or of
pcapdiag. The capture point is the proxy: its own segments are seen when sent, those of the upstream half a round trip
after they were sent.
"""

import numba
import numpy as np

MSS = 1448  # 1500 - 20 IPv4 - 20 TCP - 12 timestamps
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
ORIG, RESP = 0, 1
CLOSE_BY_RESP, CLOSE_BY_ORIG, CLOSE_IN_RACE = 0, 1, 2
RECORD_HEADER, ETHERNET, IPV4 = 16, 14, 20

MASK = 0xFFFFFFFF
SEND_US = 2  # two segments of one write
WIRE_US = 12  # 1514 bytes at 1 Gbit/s
ACK_US = 5  # from a segment to the ACK it causes
DELAYED_ACK_US = 40_000
FIRST_FLIGHT = 10  # RFC 6928
MAX_FLIGHT = 40  # stays inside the advertised window
CLOSE_US = 50  # the proxy reads the FIN of an idle connection and closes
MARK = 1  # the request that lost its race

FRAME = np.dtype(
    [
        ("ts_us", "i8"),
        ("seq", "u4"),
        ("ack", "u4"),
        ("ts_val", "u4"),
        ("ts_ecr", "u4"),
        ("data", "i4"),
        ("conn", "i4"),
        ("payload_len", "u2"),
        ("window", "u2"),
        ("ip_id", "u2"),
        ("flags", "u1"),
        ("dir", "u1"),
        ("mark", "u1"),
    ],
    align=True,
)

CONN = np.dtype(
    [
        ("start_us", "i8"),
        ("rtt_us", "i8"),
        ("close_us", "i8"),  # idle age at which the closer closes
        ("n_exchange", "i8"),
        ("lost", "i8"),  # the request that a race loses, among the messages
        ("lost_len", "i8"),
        ("close", "i8"),
        ("isn", "u4", 2),
        ("ts_base", "u4", 2),
        ("addr", "u4", 2),
        ("ip_id", "u2", 2),
        ("port", "u2", 2),
    ],
    align=True,
)

EXCHANGE = np.dtype(
    [
        ("gap_us", "i8"),  # from the last payload byte to the request
        ("service_us", "i8"),  # from the request's arrival to the first byte of the response
        ("request", "i8"),  # where the message lies among the messages
        ("request_len", "i8"),
        ("response", "i8"),
        ("response_len", "i8"),
        ("tail_len", "i8"),  # the end of the response that the server writes by itself
    ],
    align=True,
)


@numba.njit(cache=True)
def _put(rows, n, conn, ip_id, direction, ts_us, flags, seq, ack, ts_val, ts_ecr, data, length):
    row = rows[n]
    row["ts_us"] = ts_us
    row["seq"] = seq & MASK
    row["ack"] = ack & MASK
    row["ts_val"] = ts_val & MASK
    row["ts_ecr"] = ts_ecr & MASK
    row["data"] = data
    row["conn"] = conn
    row["payload_len"] = length
    row["ip_id"] = ip_id[direction] & 0xFFFF
    row["flags"] = flags
    row["dir"] = direction
    row["mark"] = 0
    if flags & RST:
        row["window"] = 0
        row["ip_id"] = 0
        return n + 1
    if flags & SYN:
        row["window"] = 64240 if direction == ORIG else 65160
        if direction == RESP:
            row["ip_id"] = 0  # Linux answers a SYN from a socket that has no counter yet
            return n + 1
    else:
        row["window"] = 502 if direction == ORIG else 509
    ip_id[direction] += 1
    return n + 1


@numba.njit(cache=True)
def _lay_out_one(rows, n, conn_idx, conn, exchanges):
    rtt = conn["rtt_us"]
    half = rtt // 2
    # Random per connection, as Linux does it; milliseconds of the sender's clock at the time of sending.
    base = (np.int64(conn["ts_base"][ORIG]), np.int64(conn["ts_base"][RESP]))
    ip_id = np.empty(2, np.int64)
    ip_id[ORIG] = conn["ip_id"][ORIG]
    ip_id[RESP] = conn["ip_id"][RESP]
    oseq = np.int64(conn["isn"][ORIG])
    rseq = np.int64(conn["isn"][RESP])
    t = conn["start_us"]

    syn_val = base[ORIG] + t // 1000
    n = _put(rows, n, conn_idx, ip_id, ORIG, t, SYN, oseq, 0, syn_val, 0, 0, 0)
    t += rtt
    recent = base[RESP] + (t - half) // 1000  # what the proxy echoes
    n = _put(rows, n, conn_idx, ip_id, RESP, t, SYN | ACK, rseq, oseq + 1, recent, syn_val, 0, 0)
    oseq += 1
    rseq += 1
    t += ACK_US
    echo = base[ORIG] + t // 1000  # what the upstream echoes
    n = _put(rows, n, conn_idx, ip_id, ORIG, t, ACK, oseq, rseq, echo, recent, 0, 0)
    end = t
    due = np.int64(-1)  # when the proxy's delayed ACK falls due

    for exchange in exchanges:
        t = end + exchange["gap_us"]
        if 0 <= due < t:
            echo = base[ORIG] + due // 1000
            n = _put(rows, n, conn_idx, ip_id, ORIG, due, ACK, oseq, rseq, echo, recent, 0, 0)
        due = np.int64(-1)

        # The request; the upstream acknowledges every second segment at once, the rest with the response.
        length = exchange["request_len"]
        sent = np.int64(0)
        count = 0
        first = t
        echo = base[ORIG] + t // 1000
        while sent < length:
            size = min(np.int64(MSS), length - sent)
            flags = ACK | PSH if sent + size == length else ACK
            at = first + count * SEND_US
            n = _put(
                rows, n, conn_idx, ip_id, ORIG, at, flags, oseq + sent, rseq, base[ORIG] + at // 1000, recent,
                exchange["request"] + sent, size,
            )  # fmt: skip
            sent += size
            count += 1
        t = first + count * SEND_US
        acked = np.int64(0)
        for pair in range(1, count // 2 + 1):
            acked = min(np.int64(2 * pair * MSS), length)
            at = first + rtt + (2 * pair - 1) * WIRE_US + ACK_US
            val = base[RESP] + (at - half) // 1000
            n = _put(rows, n, conn_idx, ip_id, RESP, at, ACK, rseq, oseq + acked, val, echo, 0, 0)
            recent = val
        oseq += length
        t += rtt
        if acked < length and exchange["service_us"] > DELAYED_ACK_US:
            at = t + DELAYED_ACK_US
            recent = base[RESP] + (at - half) // 1000
            n = _put(rows, n, conn_idx, ip_id, RESP, at, ACK, rseq, oseq, recent, echo, 0, 0)
        t += exchange["service_us"] + count * WIRE_US

        # The response, in flights that the proxy's acknowledgements open.
        length = exchange["response_len"]
        body = length - exchange["tail_len"]
        sent = np.int64(0)
        unacked = 0
        flight = FIRST_FLIGHT
        in_flight = 0
        flight_start = t
        flight_echo = echo
        end = t
        while sent < length:
            limit = body if sent < body else length
            size = min(np.int64(MSS), limit - sent)
            if in_flight == flight:
                t = max(t, flight_start + rtt + 2 * WIRE_US)
                flight_start = t
                flight = min(2 * flight, MAX_FLIGHT)
                in_flight = 0
                echo = flight_echo
            val = base[RESP] + (t - half) // 1000
            flags = ACK | PSH if sent + size == limit else ACK
            n = _put(rows, n, conn_idx, ip_id, RESP, t, flags, rseq + sent, oseq, val, echo,
                     exchange["response"] + sent, size)  # fmt: skip
            end = t
            if unacked == 0:
                recent = val  # RFC 7323 section 4.3: the first segment since the last ACK counts
            sent += size
            in_flight += 1
            unacked += 1
            due = t + DELAYED_ACK_US
            if unacked == 2:
                at = t + ACK_US
                ack_val = base[ORIG] + at // 1000
                n = _put(rows, n, conn_idx, ip_id, ORIG, at, ACK, oseq, rseq + sent, ack_val, recent, 0, 0)
                if in_flight <= 2:
                    flight_echo = ack_val
                unacked = 0
                due = np.int64(-1)
            t += WIRE_US
        rseq += length
        if due < 0:
            echo = base[ORIG] + (end + ACK_US) // 1000

    return _close(rows, n, conn_idx, conn, base, ip_id, oseq, rseq, end, due, recent, echo)


@numba.njit(cache=True)
def _close(rows, n, conn_idx, conn, base, ip_id, oseq, rseq, end, due, recent, echo):
    rtt = conn["rtt_us"]
    half = rtt // 2
    t = end + conn["close_us"]
    if due >= 0:
        echo = base[ORIG] + due // 1000
        n = _put(rows, n, conn_idx, ip_id, ORIG, due, ACK, oseq, rseq, echo, recent, 0, 0)
    if conn["close"] == CLOSE_BY_ORIG:
        val = base[ORIG] + t // 1000
        n = _put(rows, n, conn_idx, ip_id, ORIG, t, FIN | ACK, oseq, rseq, val, recent, 0, 0)
        t += rtt + CLOSE_US
        recent = base[RESP] + (t - half) // 1000
        n = _put(rows, n, conn_idx, ip_id, RESP, t, FIN | ACK, rseq, oseq + 1, recent, val, 0, 0)
        t += ACK_US
        return _put(rows, n, conn_idx, ip_id, ORIG, t, ACK, oseq + 1, rseq + 1, base[ORIG] + t // 1000, recent, 0, 0)

    fin_val = base[RESP] + (t - half) // 1000
    if conn["close"] == CLOSE_BY_RESP:
        n = _put(rows, n, conn_idx, ip_id, RESP, t, FIN | ACK, rseq, oseq, fin_val, echo, 0, 0)
        t += CLOSE_US
        val = base[ORIG] + t // 1000
        n = _put(rows, n, conn_idx, ip_id, ORIG, t, FIN | ACK, oseq, rseq + 1, val, fin_val, 0, 0)
        t += rtt
        return _put(rows, n, conn_idx, ip_id, RESP, t, ACK, rseq + 1, oseq + 1, base[RESP] + (t - half) // 1000, val,
                    0, 0)  # fmt: skip

    # The race: the request left the proxy before the FIN came in, and reaches a socket that is gone. nginx closes on
    # reading the FIN; the upstream's kernel answers both segments with a bare RST.
    request_ts = t - rtt // 3
    length = conn["lost_len"]
    val = base[ORIG] + request_ts // 1000
    lost = n
    n = _put(rows, n, conn_idx, ip_id, ORIG, request_ts, PSH | ACK, oseq, rseq, val, recent, conn["lost"], length)
    rows[lost]["mark"] = MARK
    n = _put(rows, n, conn_idx, ip_id, RESP, t, FIN | ACK, rseq, oseq, fin_val, echo, 0, 0)
    t += CLOSE_US
    val = base[ORIG] + t // 1000
    n = _put(rows, n, conn_idx, ip_id, ORIG, t, FIN | ACK, oseq + length, rseq + 1, val, fin_val, 0, 0)
    n = _put(rows, n, conn_idx, ip_id, RESP, request_ts + rtt, RST, rseq, 0, 0, 0, 0, 0)
    return _put(rows, n, conn_idx, ip_id, RESP, t + rtt, RST, rseq + 1, 0, 0, 0, 0, 0)


@numba.njit(cache=True)
def lay_out(conns, first_exchange, exchanges, first_idx, rows):
    """Write the segments of all connections.

    Parameters
    ----------
    conns : ndarray of CONN, shape (n_conn,)
    first_exchange : ndarray of int64, shape (n_conn,)
        Where the exchanges of each connection begin in `exchanges`.
    exchanges : ndarray of EXCHANGE, shape (n_exch,)
    first_idx : int
        Number of the first connection, for `conn` of the rows.
    rows : ndarray of FRAME, shape (n_row,)
        Large enough for all segments; `most_frames` says how large.

    Returns
    -------
    int
        Rows written; in time order within a connection but for a race.
    """
    n = 0
    for i in range(len(conns)):
        first = first_exchange[i]
        n = _lay_out_one(rows, n, i + first_idx, conns[i], exchanges[first : first + conns[i]["n_exchange"]])
    return n


def most_frames(conns, exchanges):
    """Return an upper bound of the segments that `lay_out` writes."""
    segments = exchanges["request_len"] // MSS + exchanges["response_len"] // MSS + 4
    return int(2 * segments.sum()) + 12 * len(conns)


@numba.njit(cache=True)
def frame_sizes(rows, sizes):
    """Write the size in bytes of each record, pcap header included."""
    for i in range(len(rows)):
        flags = rows[i]["flags"]
        options = 20 if flags & SYN else 0 if flags & RST else 12
        sizes[i] = RECORD_HEADER + ETHERNET + IPV4 + 20 + options + rows[i]["payload_len"]


@numba.njit(cache=True)
def _put16(out, at, value):
    out[at] = (value >> 8) & 0xFF
    out[at + 1] = value & 0xFF


@numba.njit(cache=True)
def _put32(out, at, value):
    _put16(out, at, value >> 16)
    _put16(out, at + 2, value & 0xFFFF)


@numba.njit(cache=True)
def _put32_little(out, at, value):
    for k in range(4):
        out[at + k] = (value >> (8 * k)) & 0xFF


@numba.njit(cache=True)
def _sum16(out, start, length):
    total = np.int64(0)
    for k in range(length // 2):
        total += (np.int64(out[start + 2 * k]) << 8) + np.int64(out[start + 2 * k + 1])
    if length & 1:
        total += np.int64(out[start + length - 1]) << 8
    return total


@numba.njit(cache=True)
def _fold(total):
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@numba.njit(cache=True)
def write_frames(rows, offsets, conns, first_idx, messages, out):
    """Write pcap records, checksums included.

    Parameters
    ----------
    rows : ndarray of FRAME, shape (n_row,)
    offsets : ndarray of int64, shape (n_row,)
        [bytes] Where each record goes in `out`.
    conns : ndarray of CONN, shape (n_conn,)
    first_idx : int
        Number of the first connection in `conns`.
    messages : ndarray of uint8, shape (n_byte,)
        What `data` of the rows points into.
    out : ndarray of uint8
    """
    for i in range(len(rows)):
        row = rows[i]
        conn = conns[row["conn"] - first_idx]
        here = np.int64(row["dir"])
        there = 1 - here
        flags = np.int64(row["flags"])
        options = 20 if flags & SYN else 0 if flags & RST else 12
        length = np.int64(row["payload_len"])
        tcp_len = 20 + options + length
        frame_len = ETHERNET + IPV4 + tcp_len

        at = offsets[i]
        _put32_little(out, at, row["ts_us"] // 1_000_000)
        _put32_little(out, at + 4, row["ts_us"] % 1_000_000)
        _put32_little(out, at + 8, frame_len)
        _put32_little(out, at + 12, frame_len)
        at += RECORD_HEADER
        for k in range(2):  # locally administered addresses that end in the IPv4 address
            address = np.int64(conn["addr"][there if k == 0 else here])
            _put16(out, at + 6 * k, 0x0200)
            _put32(out, at + 6 * k + 2, address)
        _put16(out, at + 12, 0x0800)

        ip = at + ETHERNET
        _put16(out, ip, 0x4500)
        _put16(out, ip + 2, IPV4 + tcp_len)
        _put16(out, ip + 4, np.int64(row["ip_id"]))
        _put16(out, ip + 6, 0x4000)
        _put16(out, ip + 8, (64 << 8) | 6)
        _put16(out, ip + 10, 0)
        _put32(out, ip + 12, np.int64(conn["addr"][here]))
        _put32(out, ip + 16, np.int64(conn["addr"][there]))
        _put16(out, ip + 10, _fold(_sum16(out, ip, IPV4)))

        tcp = ip + IPV4
        _put16(out, tcp, np.int64(conn["port"][here]))
        _put16(out, tcp + 2, np.int64(conn["port"][there]))
        _put32(out, tcp + 4, np.int64(row["seq"]))
        _put32(out, tcp + 8, np.int64(row["ack"]))
        _put16(out, tcp + 12, (((20 + options) // 4) << 12) | flags)
        _put16(out, tcp + 14, np.int64(row["window"]))
        _put32(out, tcp + 16, 0)
        option = tcp + 20
        if flags & SYN:
            _put32(out, option, 0x020405B4)  # MSS 1460
            _put32(out, option + 4, 0x0402080A)  # SACK permitted, timestamps
            _put32(out, option + 8, np.int64(row["ts_val"]))
            _put32(out, option + 12, np.int64(row["ts_ecr"]))
            _put32(out, option + 16, 0x01030307)  # window scale 7
        elif options:
            _put32(out, option, 0x0101080A)
            _put32(out, option + 4, np.int64(row["ts_val"]))
            _put32(out, option + 8, np.int64(row["ts_ecr"]))
        payload = option + options
        data = np.int64(row["data"])
        out[payload : payload + length] = messages[data : data + length]
        total = _sum16(out, ip + 12, 8) + 6 + tcp_len + _sum16(out, tcp, tcp_len)
        _put16(out, tcp + 16, _fold(total))
