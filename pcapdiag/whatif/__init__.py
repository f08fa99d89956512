"""What would have happened under other settings: the arrivals of a capture, replayed.

Knows analyses, logs' entries and settings; not how a command or a report says it.
"""
