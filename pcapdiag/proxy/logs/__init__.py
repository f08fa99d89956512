"""Logs of proxies and of the applications behind them: lines in, entries out. Knows nothing of packets."""
