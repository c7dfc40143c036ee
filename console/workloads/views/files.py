"""Files of a container: a path of it as a tar archive, and a file or an archive into a folder of it."""

from __future__ import annotations

import io
import posixpath
import tarfile
import time

from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from console.accounts.models import Role
from console.accounts.services import audit, require
from console.core.errors import Invalid
from console.core.requests import person
from console.live import client
from console.workloads import selectors
from console.workloads.models import Container
from console.workloads.views import containers

LONGEST = 4000
REFUSALS = (client.AgentUnavailable, client.AgentRefused)


@require_GET
def download(request: HttpRequest, id: str) -> HttpResponse | StreamingHttpResponse:
    """With all that is below it.  A copy that breaks off is an archive that is not whole, which every program tells."""
    user, container = person(request).user, _container(request, id)
    try:
        path = _path(request.GET.get("path", ""), "from")
        pieces = client.copy_out(user, container, path)
    except Invalid as refused:
        return _again(request, id, {refused.field: refused.message})
    except REFUSALS as problem:
        return _again(request, id, {"from": str(problem)})
    audit(
        "container.download", actor=user, tenant=container.tenant, target=container.id, name=container.name, path=path
    )
    answer = StreamingHttpResponse(pieces, content_type="application/x-tar")
    answer["Content-Disposition"] = f'attachment; filename="{container.name}.tar"'
    return answer


@require_POST
def upload(request: HttpRequest, id: str) -> HttpResponse:
    """``unpack``: the file is a tar archive, whose content goes into the folder."""
    user, container = person(request).user, _container(request, id)
    try:
        path = _path(request.POST.get("folder", ""), "folder")
        archive = _archive(request)
        client.copy_in(user, container, path, archive)
    except Invalid as refused:
        return _again(request, id, {refused.field: refused.message})
    except REFUSALS as problem:
        return _again(request, id, {"file": str(problem)})
    audit("container.upload", actor=user, tenant=container.tenant, target=container.id, name=container.name, path=path)
    messages.success(request, _("The upload is in %(folder)s.") % {"folder": path})
    return redirect(f"{reverse('workloads:container', args=[container.id])}?tab=files")


def _container(request: HttpRequest, id: str) -> Container:
    user = person(request).user
    container = selectors.container(user, id)
    require(user, container.tenant, Role.MEMBER)
    return container


def _path(text: str, field: str) -> str:
    path = text.strip()
    if not path.startswith("/") or "\0" in path or len(path) > LONGEST:
        raise Invalid(field, _("Write a path that begins with '/'."))
    return path


def _archive(request: HttpRequest) -> bytes:
    """Of one file, or what was uploaded if that is one.  The site's limit of a request bounds it."""
    file = request.FILES.get("file")
    if not isinstance(file, UploadedFile):
        raise Invalid("file", _("Choose a file."))
    content = bytes(file.read())
    if "unpack" in request.POST:
        return content
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        entry = tarfile.TarInfo(posixpath.basename(file.name or "") or "upload")
        entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o644
        archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def _again(request: HttpRequest, id: str, errors: dict[str, str]) -> HttpResponse:
    typed = {"path": request.GET.get("path", ""), "folder": request.POST.get("folder", "")}
    context = {**containers.page_of(request, id, "files"), "errors": errors, "typed": typed}
    return render(request, "workloads/container.html", context, status=422)
