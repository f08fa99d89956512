"""A proxy's configuration as settings with their sources. Knows nothing of captures, logs and findings."""
