"""The table of names: full reference -> image id.  An image is there when it has one, which is written last."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from runtime.home import Home, atomic_write, decoding


class Names:
    def __init__(self, home: Home) -> None:
        self._home = home
        self._file = home.images / "references.json"

    def table(self) -> Mapping[str, str]:
        """Raises EngineFault: it is damaged, and nobody knows any more which images are here; none of their content goes then."""
        try:
            content = self._file.read_bytes()
        except FileNotFoundError:
            return {}
        with decoding(self._file):
            table = json.loads(content)
            if not (isinstance(table, dict) and all(isinstance(id, str) for id in table.values())):
                raise TypeError("it is no table of names")
            return table

    def change(self, change: Callable[[dict[str, str]], None]) -> None:
        """As one step among all processes."""
        with self._home.lock("images"):
            table = dict(self.table())
            change(table)
            atomic_write(self._file, json.dumps(table, sort_keys=True).encode())
