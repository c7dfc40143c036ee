"""``./slipway doctor``: every check, what it found, and the fix."""

from __future__ import annotations

from launcher.checks import CHECKS, Check, Level, examine
from launcher.output import Output
from launcher.settings import Settings

COLOURS: dict[Level, str] = {"ok": "32", "warn": "33", "fail": "31"}


def doctor(settings: Settings, output: Output, checks: tuple[Check, ...] = CHECKS) -> int:
    """1 when a check failed, else 0."""
    findings = examine(settings, checks)
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark = output.paint(f"{finding.level:<4}", COLOURS[finding.level])
        output.line(f"{mark}  {finding.name:<{width}}  {finding.found}")
        if finding.fix and finding.level != "ok":
            output.line(f"      {'':<{width}}  -> {finding.fix}")
    failed = sum(finding.level == "fail" for finding in findings)
    warned = sum(finding.level == "warn" for finding in findings)
    output.line()
    output.line(f"{len(findings)} checks: {failed} failed, {warned} with a warning")
    return 1 if failed else 0
