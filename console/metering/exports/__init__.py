"""Billing data for other programs."""

from __future__ import annotations

from console.metering.exports.usage import csv_rows, json_chunks, period

__all__ = ["csv_rows", "json_chunks", "period"]
