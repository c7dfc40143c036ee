"""What every app shares: ids, tenant-scoped queries, errors and their way to HTTP and WebSockets, live events."""
