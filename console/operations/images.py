"""Getting the image that a launch needs, and the right to use it.

The node's store shares content between tenants; the right is a row.  Built-in images are everybody's; an image of a registry is a
tenant's once the registry has given it to this tenant's own request.
"""

from __future__ import annotations

from dataclasses import asdict

from django.conf import settings

from console.accounts.models import Tenant
from console.catalog.models import Registry
from console.core import secrets
from console.operations import engine as engines
from console.workloads.models import Image as ImageRow
from runtime.api import Credentials, Engine, Image, Progress
from runtime.engines.fake.engine import FakeEngine
from runtime.engines.native.engine import NativeEngine
from runtime.errors import InvalidSpec
from runtime.image.build import build
from runtime.image.recipe import Recipe, recipe


def built_in(engine: Engine, slug: str, progress: Progress) -> Image:
    """Built when it is not there yet.  Raises InvalidSpec for an unknown slug, and what building raises."""
    known = recipe(slug)
    if known is None:
        raise InvalidSpec("There is no such application in the catalog.", hint="Choose another.", field="image")
    image = _make(engine, known, progress)
    record(None, str(known.reference), image)
    return image


def _make(engine: Engine, known: Recipe, progress: Progress) -> Image:
    if isinstance(engine, NativeEngine):
        return build(known, engine.store, engines.home(), progress=progress)
    assert isinstance(engine, FakeEngine)
    return engine.add_image(known.reference, known.memory_needed)


def pulled(
    engine: Engine, tenant: Tenant | None, reference: str, registry: Registry | None, progress: Progress
) -> Image:
    """Asks the registry each time: its yes to this tenant is what makes the image the tenant's."""
    credentials = None
    if registry is not None and registry.username:
        credentials = Credentials(registry.username, secrets.decrypt(bytes(registry.password_encrypted)))
    image = engine.pull(
        reference, credentials=credentials, insecure=bool(registry and registry.insecure), progress=progress
    )
    record(tenant, reference, image)
    return image


def record(tenant: Tenant | None, reference: str, image: Image) -> ImageRow:
    row, _ = ImageRow.objects.update_or_create(
        tenant=tenant,
        node=settings.NODE,
        reference=reference,
        defaults={
            "digest": image.id,
            "architecture": image.architecture,
            "size": image.size,
            "layers": [asdict(layer) for layer in image.layers],
            "config": dict(image.config),
        },
    )
    return row
