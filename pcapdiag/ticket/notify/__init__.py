"""Tells others what a scan found: metrics for node_exporter, messages through Apprise."""
