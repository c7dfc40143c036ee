"""An engine on files alone, for fast tests of the console; it passes the same conformance suite."""
