"""What a native engine is made of.

Each part and each facet is made when somebody asks for it first, and its module is loaded then: most of them are no use to a process
of one verb, as the command line is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runtime.engines.native.once import once
from runtime.engines.native.records import Records
from runtime.errors import NotFound
from runtime.telemetry.journal import Journal

if TYPE_CHECKING:
    from runtime.api import Attachments, ContainerSpec, Events, ExecSpec, Files, Health, ImageService, Restarts
    from runtime.engines.native.controls import NativeControls
    from runtime.engines.native.creation import Creation
    from runtime.engines.native.damage import Damage
    from runtime.engines.native.execs import NativeExec
    from runtime.engines.native.flooding import Flooding
    from runtime.engines.native.hoarding import Hoarding
    from runtime.engines.native.lifecycle import Lifecycle
    from runtime.engines.native.networks import NativeNetworks
    from runtime.engines.native.records import Record
    from runtime.engines.native.recovery import Recovery
    from runtime.engines.native.removal import Removal
    from runtime.engines.native.totals import NativeTotals
    from runtime.engines.native.volumes import NativeVolumes
    from runtime.home import Home
    from runtime.image.store import ImageStore
    from runtime.network.attach import TenantNetworks
    from runtime.telemetry.sampler import Sampler


class Facets:
    def __init__(self, home: Home) -> None:
        self.home = home
        self._records = Records(home)
        self._journal = Journal(home.state / "events")

    # what the verbs offer to facets ------------------------------------------------------------------------

    def exec(self, id: str, spec: ExecSpec) -> NativeExec:
        raise NotImplementedError

    def _settled(self, id: str) -> tuple[ContainerSpec, Record]:
        raise NotImplementedError

    def _images_of_containers(self) -> Iterator[tuple[str, str]]:
        for id in self._records.ids():
            with contextlib.suppress(NotFound):  # removed in this moment
                yield id, self._records.spec(id).image

    def _specs(self) -> Iterator[ContainerSpec]:
        for id in self._records.ids():
            with contextlib.suppress(NotFound):
                yield self._records.spec(id)

    def _images_in_use(self) -> set[str]:
        return {image for _, image in self._images_of_containers()}

    # facets of the protocol --------------------------------------------------------------------------------

    @property
    def events(self) -> Events:
        return self._journal

    @once
    def networks(self) -> NativeNetworks:
        from runtime.engines.native.networks import NativeNetworks

        return NativeNetworks(self.home, self._lifecycle, self._specs, self._settled)

    @once
    def volumes(self) -> NativeVolumes:
        from runtime.engines.native.volumes import NativeVolumes

        return NativeVolumes(self.home, self._records)

    @once
    def files(self) -> Files:
        from runtime.engines.native.files import NativeFiles
        from runtime.engines.native.view import Views

        return NativeFiles(Views(self.home, self._lifecycle, self.store, self._networks), self._records, self.store)

    @once
    def totals(self) -> NativeTotals:
        from runtime.engines.native.totals import NativeTotals

        return NativeTotals(self.home)

    @once
    def image_service(self) -> ImageService:
        from runtime.engines.native.image_service import NativeImageService

        return NativeImageService(self.store, self._journal)

    @once
    def health(self) -> Health:
        from runtime.engines.native.health import NativeHealth

        return NativeHealth(self.home, self._lifecycle, self.exec)

    @once
    def attachments(self) -> Attachments:
        from runtime.engines.native.attach import NativeAttachments

        return NativeAttachments(self.home, self._lifecycle)

    @once
    def restarts(self) -> Restarts:
        from runtime.engines.native.restarts import NativeRestarts

        return NativeRestarts(self.home, self._lifecycle, self._settled)

    @once
    def controls(self) -> NativeControls:
        from runtime.engines.native.controls import NativeControls

        return NativeControls(self.home, self._lifecycle, self._removal, self.store, self._settled)

    # parts of the verbs ------------------------------------------------------------------------------------

    @once
    def store(self) -> ImageStore:
        from runtime.image.store import ImageStore

        return ImageStore(self.home, self._images_in_use)

    @once
    def _networks(self) -> TenantNetworks:
        from runtime.network.attach import TenantNetworks

        return TenantNetworks(self.home)

    @once
    def _lifecycle(self) -> Lifecycle:
        from runtime.engines.native.lifecycle import Lifecycle

        return Lifecycle(self.home, self._records, self._journal, lambda: self.store, self._networks)

    @once
    def _creation(self) -> Creation:
        from runtime.engines.native.creation import Creation

        return Creation(self.home, self._lifecycle, self._removal, self.store, lambda: self.volumes)

    @once
    def _removal(self) -> Removal:
        from runtime.engines.native.removal import Removal

        return Removal(self.home, self._lifecycle)

    @once
    def _recovery(self) -> Recovery:
        from runtime.engines.native.recovery import Recovery

        return Recovery(
            self.home, self._lifecycle, self._removal, self._damage, self._networks, self.store, self.volumes
        )

    @once
    def _damage(self) -> Damage:
        from runtime.engines.native.damage import Damage

        return Damage(self.home, self._lifecycle, self._removal)

    @once
    def _flooding(self) -> Flooding:
        from runtime.engines.native.flooding import Flooding

        return Flooding(self.home, self._records)

    @once
    def _hoarding(self) -> Hoarding:
        from runtime.engines.native.hoarding import Hoarding

        return Hoarding(self.home, self._records)

    @once
    def _sampler(self) -> Sampler:
        from runtime.telemetry.sampler import Sampler

        return Sampler(self.home)
