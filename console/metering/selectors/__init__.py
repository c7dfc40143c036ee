"""Reads: usage, prices and bills."""

from __future__ import annotations

from console.metering.selectors.usage import By, UsageRow, usage

__all__ = ["By", "UsageRow", "usage"]
