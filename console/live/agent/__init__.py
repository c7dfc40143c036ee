"""The agent: one asyncio process a node, as root.  It samples, sees exits, meters, and serves logs and terminals."""
