"""Words and quantities that every room shares: no captures, no rules, no output."""
