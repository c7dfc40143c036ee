"""An engine in memory, for fast tests of the console; it passes the same conformance suite."""
