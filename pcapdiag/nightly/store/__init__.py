"""What earlier scans found: a database of captures, upstreams by day and findings, and exchanges as Parquet."""
