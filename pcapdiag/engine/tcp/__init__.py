"""From frames to connections: one fate per segment, streams in order, closings. Knows nothing of what streams carry."""
