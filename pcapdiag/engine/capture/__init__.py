"""From bytes to frames: sources, containers and link layers. Knows nothing of TCP connections."""
