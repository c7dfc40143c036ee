"""One function per kernel call, no policy.  Imports nothing of ours but :mod:`runtime.errors` and the value types of :mod:`runtime.api`."""
