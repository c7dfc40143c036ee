"""Implementations of :class:`runtime.api.Engine`."""
