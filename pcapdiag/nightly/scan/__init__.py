"""Every night: find captures in folders and object stores, read what is new, and remember it."""
