"""The restart policy of ``run`` as a person writes it."""

from __future__ import annotations

import argparse
import re

from runtime.api import RestartPolicy
from runtime.errors import InvalidSpec


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--restart", default="no", metavar="POLICY", help="no, on-failure[:N], always or unless-stopped"
    )


def policy(text: str) -> RestartPolicy:
    """``on-failure:3``; the engine judges the words.  Raises InvalidSpec."""
    mode, _, retries = text.partition(":")
    if retries and not re.fullmatch(r"\d{1,7}", retries, re.ASCII):
        raise InvalidSpec(f"{retries!r} is not a number of retries.", hint="Write on-failure:3.", field="--restart")
    return RestartPolicy(mode, int(retries) if retries else None)  # type: ignore[arg-type]
