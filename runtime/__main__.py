"""``python -m runtime``.

Collecting garbage would be a seventh of what a short verb takes: most of what it looks through is what was loaded, which stays.  So it
is done seldom, for the verbs that stay or work for long, and not at the end.
"""

import gc
import sys

SELDOM = 100_000
"""New objects between two collections: more than loading makes."""

gc.set_threshold(SELDOM)

from runtime.cli import main  # noqa: E402

code = main(sys.argv[1:])
gc.freeze()
sys.exit(code)
