"""What must not leave: redaction, escaping, anonymization."""
