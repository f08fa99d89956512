"""What the operator's side says: configuration, logs, and the joining of log entries with tries on the wire."""
