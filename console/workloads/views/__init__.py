"""Pages of containers, and the home page."""
