"""Both ends of the same connections: the proxy's captures joined with captures from the upstreams' end."""
