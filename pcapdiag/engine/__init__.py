"""From bytes to exchanges: captures, TCP, HTTP, each with its compiled kernels beside its code."""
