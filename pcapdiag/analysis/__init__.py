"""From tables to one Analysis: roles, upstreams, losses, tries, idle timeouts, logs, the other end."""
