"""The flight recorder: a capture that never ends, of which only what proves a failure is kept."""
