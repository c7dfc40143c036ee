"""Channels consumers, the agent and its client."""
