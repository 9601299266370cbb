"""Who runs what, and for how long: calls, threads, requests in flight, locks, awaitable twins."""
