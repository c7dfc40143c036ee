"""Front-end libraries, file by file, out of node_modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import BaseFinder
from django.core.checks import CheckMessage
from django.core.checks import Warning as CheckWarning
from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage


class _VendorStorage(FileSystemStorage):
    """Published names on top of the files that carry them."""

    prefix = ""

    def path(self, name: str) -> str:
        return str(Path(settings.NODE_MODULES) / settings.VENDOR_FILES[name])

    def _open(self, name: str, mode: str = "rb") -> File[Any]:
        return File(Path(self.path(name)).open(mode), name)


class VendorFinder(BaseFinder):
    """Only ``settings.VENDOR_FILES`` is published: a whole dist folder refers to files that are not there."""

    def check(self, **_kwargs: Any) -> list[CheckMessage]:
        root = Path(settings.NODE_MODULES)
        missing = [source for source in settings.VENDOR_FILES.values() if not (root / source).is_file()]
        if not missing:
            return []
        return [
            CheckWarning(
                f"Front-end files are missing: {', '.join(missing)}.", hint="Run `./slipway up`.", id="console.W001"
            )
        ]

    def find(self, path: str, find_all: bool = False, **_kwargs: Any) -> Any:
        source = settings.VENDOR_FILES.get(path)
        found = Path(settings.NODE_MODULES) / source if source else None
        there = str(found) if found and found.is_file() else None
        if find_all:
            return [there] if there else []
        return there

    def list(self, ignore_patterns: Iterable[str] | None) -> Iterator[tuple[str, Storage]]:  # noqa: ARG002 -- Django's
        storage = _VendorStorage(location=str(settings.NODE_MODULES))
        for name in settings.VENDOR_FILES:
            if Path(storage.path(name)).is_file():
                yield name, storage
