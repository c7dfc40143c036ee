"""Volumes of the fake engine: the native ones' records and rules, with a limit that is told and not enforced."""

from __future__ import annotations

from pathlib import Path

from runtime.api import Volume, VolumeSpec
from runtime.engines.fake.misbehaviour import Misbehaviour
from runtime.engines.native.records import Records
from runtime.engines.native.volumes import NativeVolumes
from runtime.home import Home
from runtime.storage.volumes import VolumeStore


class _Unlimited(VolumeStore):
    def _make_content(self, cradle: Path, size: int | None) -> None:
        del size
        super()._make_content(cradle, None)


class FakeVolumes(NativeVolumes):
    def __init__(self, home: Home, records: Records, misbehaviour: Misbehaviour) -> None:
        super().__init__(home, records, _Unlimited(home))
        self._misbehaviour = misbehaviour

    def create(self, spec: VolumeSpec) -> Volume:
        self._misbehaviour.act("create_volume")
        return super().create(spec)

    def remove(self, tenant: str, name: str) -> None:
        self._misbehaviour.act("remove_volume")
        super().remove(tenant, name)
