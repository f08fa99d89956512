"""The least that a packet loop in Python does: decode each frame down to TCP, and count payload bytes."""

import sys
from pathlib import Path

import dpkt


def main() -> None:
    frames = segments = payload = 0
    with Path(sys.argv[1]).open("rb") as stream:
        for _, frame in dpkt.pcap.Reader(stream):
            frames += 1
            ip = dpkt.ethernet.Ethernet(frame).data
            if isinstance(ip, dpkt.ip.IP) and isinstance(ip.data, dpkt.tcp.TCP):
                segments += 1
                payload += len(ip.data.data)
    print(frames, segments, payload)


if __name__ == "__main__":
    main()
