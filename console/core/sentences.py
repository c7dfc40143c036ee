"""Sentences of the runtime that people read, for gettext: the runtime itself knows no languages."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

SENTENCES = (
    _("The node's disk is full."),
    _("The node's disk is full, so the image could not be stored."),
    _("Remove images or containers, then try again."),
    _("Remove images or containers and try again."),
    _("Check the command."),
    _("Check the command, or leave it empty to run the image's own."),
    _("The working directory is not there."),
    _("Raise the memory limit."),
    _("The memory limit is too low for the container to start."),
    _("Check the name and the tag."),
    _("Check its address, and that it runs, then try again."),
    _("Correct the registry's credentials."),
    _("Add the registry with credentials."),
    _("Use an image for this architecture."),
    _("Do not use this image."),
    _("The image must be pushed anew."),
    _("Choose another host port, or leave it empty to get a free one."),
    _("Try again."),
    _("Try again in a moment."),
    _("The command cannot be executed: permission denied."),
    _("Something unforeseen went wrong."),
    _("The node's log has the details."),
    _("A part of the image is not what its digest says: it was damaged on the way or in the registry."),
    _("Try again; if it stays so, the image must be pushed anew."),
    _("The worker was lost again and again while it worked on this."),
)
