"""The images of a node: manifests and layers by digest, references, unpacked layers shared by diff_id.

An image is there when its reference is in ``references.json``, which is written last; everything before that is
content by digest that the next try finds or :meth:`ImageStore.gc` removes.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from runtime.api import Credentials, Image, Layer, Progress, Step, no_progress
from runtime.errors import (
    Conflict,
    DeadlineExceeded,
    ImageCorrupt,
    ImageUnavailable,
    ImageUnsuitable,
    NotFound,
    RuntimeFault,
)
from runtime.failpoint import failpoint
from runtime.home import Home
from runtime.image.blobs import Blobs, parse_json
from runtime.image.collection import Collection
from runtime.image.config import check_fields
from runtime.image.leases import CONTENT_LOCK, Lease, Leases
from runtime.image.names import Names
from runtime.image.reference import BUILT_IN, Reference
from runtime.image.room import disk_full, out_of_space
from runtime.image.uses import Uses
from runtime.kernel.tree import remove_tree

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x"}
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def architecture() -> str:
    """Of this node, as OCI names it."""
    machine = os.uname().machine
    return ARCHITECTURES.get(machine, machine)


class ImageStore:
    """``in_use``: ids of the images that containers have; these stay whole even when their last name is another image's now."""

    def __init__(self, home: Home, in_use: Callable[[], Iterable[str]] = tuple) -> None:
        self._home = home
        self._in_use = in_use
        self.blobs = Blobs(home)
        self.blobs.prepare()
        self._layers = home.images / "layers"
        self._layers.mkdir(mode=0o700, exist_ok=True)
        self._cache: dict[str, Image] = {}
        self._collection = Collection(home, self.blobs)
        self.leases = Leases(home)
        self.uses = Uses(home)
        self._table = Names(home)

    # references ------------------------------------------------------------------------------------------

    def references(self) -> Mapping[str, str]:
        """Full reference -> image id."""
        return self._table.table()

    def tag(self, reference: Reference, image: str) -> None:
        self._table.change(lambda table: table.update({str(reference): image}))

    # images ----------------------------------------------------------------------------------------------

    def resolve(self, text: str) -> str:
        """Id of an image that is here.  A name without a registry means a built-in image first.  Raises NotFound, InvalidSpec.

        An id is enough for an image without a name, as long as a container keeps it here.
        """
        table = self.references()
        if text in table.values():
            return text
        if text.startswith("sha256:") and text in self._in_use() and self.blobs.has(text):
            return text
        if text.startswith("sha256:"):
            raise NotFound("The image is not on this node.", hint="Pull it first.", field="image")
        for reference in (Reference.parse(text, registry=BUILT_IN), Reference.parse(text)):
            if str(reference) in table:
                return table[str(reference)]
        raise NotFound(f"The image {text[:80]!r} is not on this node.", hint="Pull it first.", field="image")

    def image(self, text: str) -> Image:
        id = self.resolve(text)
        known = self._cache.get(id)
        if known is None:
            known = self._cache[id] = self._read(id)
        return replace(known, references=self._names(id))

    def _names(self, id: str) -> tuple[str, ...]:
        return tuple(sorted(name for name, target in self.references().items() if target == id))

    def images(self) -> tuple[Image, ...]:
        return tuple(self._read(id) for id in sorted(set(self.references().values())))

    def _read(self, id: str) -> Image:
        manifest = self.blobs.json(id)
        config = self.blobs.json(manifest["config"]["digest"])
        history = [row for row in config.get("history") or [] if not row.get("empty_layer")]
        diff_ids = config["rootfs"]["diff_ids"]
        layers = tuple(
            Layer(
                digest=str(layer["digest"]),
                diff_id=str(diff_id),
                size=int(layer["size"]),
                created_by=str(history[index].get("created_by", ""))[:300] if index < len(history) else "",
            )
            for index, (layer, diff_id) in enumerate(zip(manifest["layers"], diff_ids, strict=True))
        )
        return Image(
            id=id,
            references=self._names(id),
            architecture=str(config.get("architecture", "")),
            os=str(config.get("os", "")),
            size=sum(layer.size for layer in layers),
            layers=layers,
            created=str(config.get("created", "")),
            config=config.get("config") or {},
        )

    def layer_folders(self, image: Image) -> tuple[Path, ...]:
        """Unpacked, bottom first."""
        return tuple(self._layer(layer.diff_id) for layer in image.layers)

    def _layer(self, diff_id: str) -> Path:
        return self._layers / self.blobs.path(diff_id).name / "fs"

    # adding ----------------------------------------------------------------------------------------------

    def check_config(self, config: Mapping[str, Any], layers: int) -> list[str]:
        """Returns the diff_ids.  Raises ImageUnsuitable (another platform), ImageCorrupt (a field of the wrong kind)."""
        rootfs = config.get("rootfs")
        diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        if (
            not isinstance(diff_ids, list)
            or len(diff_ids) != layers
            or not all(isinstance(row, str) for row in diff_ids)
        ):
            raise ImageCorrupt(
                "The image's configuration does not fit its layers.", hint="The image must be pushed anew."
            )
        check_fields(config)
        wanted = architecture()
        if config.get("architecture") != wanted or config.get("os") != "linux":
            raise ImageUnsuitable(
                f"The image is for {config.get('os')}/{config.get('architecture')}; this node is linux/{wanted}.",
                hint="Use an image for this architecture.",
                field="image",
            )
        return diff_ids

    def ensure_layer(self, digest: str, diff_id: str) -> None:
        """Unpack a layer whose blob is here.  Processes that want the same layer wait for one.  Raises as unpack does.

        A layer that is unpacked already is this image's only if its own blob unpacks to it: whoever knows no more of a layer
        than its diff_id gets nothing by naming it.
        """
        target = self._layer(diff_id).parent
        proof = target / "from" / self.blobs.path(digest).name
        if proof.exists():
            return
        with self._home.lock(f"layer-{target.name[:32]}", timeout_s=1800):
            try:
                if target.exists():
                    self._prove(digest, diff_id, proof)
                else:
                    self._unpack(digest, diff_id, target)
            except OSError as error:
                raise (out_of_space() if disk_full(error) else error) from None
            finally:
                self._home.forget_lock(f"layer-{target.name[:32]}")

    def _prove(self, digest: str, diff_id: str, proof: Path) -> None:
        from runtime.image import unpack

        with self.blobs.path(digest).open("rb") as source:
            if unpack.diff_id(source) != diff_id:
                raise _another_layer()
        proof.parent.mkdir(exist_ok=True)
        proof.touch()

    def _unpack(self, digest: str, diff_id: str, target: Path) -> None:
        from runtime.image.unpack import unpack

        temporary = self.blobs.ingest / f"{target.name}.fs"
        remove_tree(temporary)
        try:
            (temporary / "from").mkdir(parents=True)
            (temporary / "from" / self.blobs.path(digest).name).touch()
            (temporary / "fs").mkdir()
            failpoint("unpack.begun")
            (temporary / "fs").chmod(0o755)  # whatever the umask: it is the root folder of containers
            with self.blobs.path(digest).open("rb") as source:
                actual, _ = unpack(source, temporary / "fs")
            if actual != diff_id:
                raise _another_layer()
            failpoint("unpack.written")
            os.sync()
            os.rename(temporary, target)
            failpoint("unpack.renamed")
        finally:
            remove_tree(temporary)

    def adopt(self, manifest: bytes, reference: Reference, lease: Lease, progress: Progress = no_progress) -> Image:
        """Unpack the layers of a manifest whose blobs are all here and held, then give it its reference."""
        parsed = parse_json(manifest)
        config = self.blobs.json(parsed["config"]["digest"])
        diff_ids = self.check_config(config, len(parsed["layers"]))
        lease.hold(diff_ids)
        for number, (layer, diff_id) in enumerate(zip(parsed["layers"], diff_ids, strict=True)):
            progress(Step("unpack", number, len(diff_ids)))
            self.ensure_layer(layer["digest"], diff_id)
        progress(Step("unpack", len(diff_ids), len(diff_ids)))
        id = self.blobs.put(manifest, lease)
        self.uses.note(id)
        failpoint("adopt.stored")
        self.tag(reference, id)
        failpoint("adopt.named")
        self.leases.supersede(self.content(id))
        self._cache.pop(id, None)
        return self.image(id)

    def pull(
        self,
        reference: str,
        *,
        credentials: Credentials | None = None,
        insecure: bool = False,
        confined: bool = False,
        progress: Progress = no_progress,
    ) -> Image:
        """See :meth:`runtime.api.Engine.pull`."""
        from runtime.image.pull import pull

        wanted = Reference.parse(reference)
        try:
            return pull(self, wanted, credentials=credentials, insecure=insecure, confined=confined, progress=progress)
        except (ImageUnavailable, DeadlineExceeded):
            raise  # what has come so far is what the next try goes on from
        except RuntimeFault:
            self.gc()
            raise

    def load(
        self, archive: Path, *, reference: str | None = None, progress: Progress = no_progress
    ) -> tuple[Image, ...]:
        """See :meth:`runtime.api.Engine.load`."""
        from runtime.image.archive import load

        try:
            return load(self, archive, reference=reference, progress=progress)
        except RuntimeFault:
            self.gc()
            raise

    def commit(
        self, reference: Reference, layers: list[tuple[BinaryIO | str, str]], config: Mapping[str, Any], created: str
    ) -> Image:
        """Make an image: each layer is a plain tar stream, or the digest of a plain tar that is here, with what made it."""
        with self.leases.lease("commit") as lease:
            return self._commit(reference, layers, config, created, lease)

    def _commit(
        self,
        reference: Reference,
        layers: list[tuple[BinaryIO | str, str]],
        config: Mapping[str, Any],
        created: str,
        lease: Lease,
    ) -> Image:
        lease.hold(source for source, _ in layers if isinstance(source, str))
        rows, diff_ids, history = [], [], []
        for source, created_by in layers:
            if isinstance(source, str):
                digest, size = source, self.blobs.path(source).stat().st_size
            else:
                digest, size = self.blobs.copy_in(source, lease)
            rows.append({"mediaType": LAYER, "digest": digest, "size": size})
            diff_ids.append(digest)
            history.append({"created": created, "created_by": created_by})
        body = {
            "created": created,
            "architecture": architecture(),
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        }
        content = json.dumps(body, sort_keys=True).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": self.blobs.put(content, lease), "size": len(content)},
            "layers": rows,
        }
        return self.adopt(json.dumps(manifest, sort_keys=True).encode(), reference, lease)

    # removing --------------------------------------------------------------------------------------------

    def remove(self, text: str, *, in_use: Callable[[str], str | None]) -> None:
        """Drop a reference, or an id with all its references; then what only it held.  Raises NotFound, Conflict."""
        id = self.resolve(text)
        names = [name for name, target in self.references().items() if target == id]
        dropped = names if text == id else [name for name in names if name in spellings(text)]
        if len(dropped) == len(names):
            user = in_use(id)
            if user is not None:
                raise Conflict("A container uses the image.", hint="Remove the container first.", container=user)

        self.untag(dropped)
        self.gc()

    def untag(self, names: Iterable[str]) -> None:
        dropped = tuple(names)

        def drop(table: dict[str, str]) -> None:
            for name in dropped:
                table.pop(name, None)

        self._table.change(drop)
        self._cache.clear()
        failpoint("gc.untagged")

    def gc(self) -> tuple[str, ...]:
        """Remove content that no referenced image, no container's image and no lease has; returns what went.

        Somebody adds in this moment (:meth:`adding`): nothing is removed, and the next call does it.
        """
        try:
            with self.alone(timeout_s=1):
                gone = self.bury()
        except DeadlineExceeded:
            gone = ()
        self.empty_graves()
        return gone

    def alone(self, timeout_s: float) -> AbstractContextManager[None]:
        """Nobody else adds a name, a container or a lease meanwhile: a moment's work.  Raises DeadlineExceeded."""
        return self._home.lock(CONTENT_LOCK, timeout_s=timeout_s)

    def bury(self, *, spared: Iterable[str] = (), abandoned: bool = True) -> tuple[str, ...]:
        """Within :meth:`alone`.  ``spared``: ids of images that stay nevertheless; ``abandoned``: so does what a dead owner's lease holds."""
        leased = self.leases.digests(abandoned=abandoned)
        keep = self.kept(spared) | leased
        self.leases.sweep(abandoned=not abandoned)
        self.uses.keep(keep)
        self._cache.clear()
        return self._collection.bury(keep, leased)

    def empty_graves(self) -> int:
        """Returns the bytes that it freed, and those of the blobs that went since the last time."""
        return self._collection.empty_graves()

    def sweep(self) -> tuple[str, ...]:
        """Remove what a crash left of unpacking, building, writing and removing; what is being done now is left alone."""
        return (*self.leases.sweep(), *self._collection.sweep())

    @property
    def containers(self) -> str:
        """The block of the containers' subnets."""
        return self._home.subnets

    @contextlib.contextmanager
    def blob_lock(self, part: str) -> Iterator[None]:
        """Two pulls of the same blob from the same registry download it once."""
        name = f"blob-{part.removesuffix('.part')}"
        with self._home.lock(name, timeout_s=1800):
            try:
                yield
            finally:
                self._home.forget_lock(name)

    def adding(self) -> AbstractContextManager[None]:
        """Held while a container is written down: what it is made of stays until then, and after that it keeps it."""
        return self._home.lock(CONTENT_LOCK, timeout_s=60, shared=True)

    @contextlib.contextmanager
    def held(self, texts: Iterable[str], purpose: str) -> Iterator[tuple[Lease, tuple[Image, ...]]]:
        """Images that stay whole meanwhile, whatever becomes of their names.  Raises NotFound."""
        with self.leases.lease(purpose) as lease:
            with self.adding():
                images = tuple(self.image(text) for text in texts)
                digests = [digest for image in images for digest in self.content(image.id)]
                lease.hold(digests)
            yield lease, images

    def content(self, id: str) -> set[str]:
        """Digests of the blobs of an image and diff_ids of its layers.  Raises NotFound."""
        config = self.blobs.json(self.blobs.json(id)["config"]["digest"])
        return self.blobs_of(id) | set(config["rootfs"]["diff_ids"])

    def blobs_of(self, id: str) -> set[str]:
        """Its own included.  Raises NotFound."""
        manifest = self.blobs.json(id)
        return {id, manifest["config"]["digest"], *(row["digest"] for row in manifest["layers"])}

    def kept(self, spared: Iterable[str] = ()) -> set[str]:
        """The content of every image that has a name or a container, or is ``spared``."""
        keep: set[str] = set()
        for id in {*self.references().values(), *self.used_by_containers(), *spared}:
            with contextlib.suppress(NotFound):  # lost by other hands: nothing of it can be kept
                keep |= self.content(id)
        return keep

    def used_by_containers(self) -> frozenset[str]:
        return frozenset(self._in_use())


def _another_layer() -> ImageCorrupt:
    return ImageCorrupt(
        "A layer of the image is not what its configuration says.", hint="The image must be pushed anew."
    )


def spellings(text: str) -> set[str]:
    """What a name without a registry may mean here."""
    return {str(Reference.parse(text, registry=BUILT_IN)), str(Reference.parse(text))}
