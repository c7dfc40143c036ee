"""The engine that runs containers on this node's kernel."""
