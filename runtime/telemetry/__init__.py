"""Counters, log files and exits."""
