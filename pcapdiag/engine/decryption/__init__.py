"""What TLS records hold, where the operator gave the keys: key logs, keys of records, records cut out of streams."""
