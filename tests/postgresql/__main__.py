"""The console's tests once more, on PostgreSQL, and those that are about PostgreSQL; arguments are pytest's.

Where they name files or folders (``tests/…``), only those.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.postgresql.cluster import cluster

SUITES = ("tests/postgresql", "tests/console", "tests/live")


def main() -> int:
    with cluster() as made:
        environment = {**os.environ, "SLIPWAY_TEST_DATABASE_URL": made.url()}
        named = any(word.startswith("tests/") for word in sys.argv[1:])
        command = [sys.executable, "-m", "pytest", *(() if named else SUITES), *sys.argv[1:]]
        return subprocess.run(command, check=False, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
