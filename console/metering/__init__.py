"""Readings of kernel counters, usage records, exports."""
