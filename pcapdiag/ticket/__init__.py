"""What leaves for a ticket: evidence, bundles, attachments, messages."""
