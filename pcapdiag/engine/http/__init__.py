"""From streams to exchanges: HTTP/1.x framing, turns for everything else. Knows nothing of frames and addresses."""
