"""Sentences of the runtime that people read, for gettext: the runtime itself knows no languages.

The runtime tells what happened in English, with its figures in it; rows, events and state files keep that sentence.  Here are the
templates of all of them, clauses included.  :func:`told` finds the template that a sentence was made from, and fills the
reader's own with the same values.  A test reads the runtime's source and finds each sentence here and in every language.
"""

from __future__ import annotations

import re
from functools import cache

from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

PLACE = re.compile(r"%\((\w+)\)s")


MOST = 2000
"""Characters; what is longer is no sentence."""


def told(sentence: str) -> str:
    """One sentence of the runtime, or a message with its hint, in the reader's language; English where nothing is known."""
    if len(sentence) > MOST:
        return sentence
    ends = [end.end() for end in re.finditer(r"[.!?)] ", sentence)]
    pairs = [(_one(sentence[: end - 1]), _one(sentence[end:])) for end in ends]
    both = [f"{message} {hint}" for message, hint in pairs if message is not None and hint is not None]
    return next(iter(both), None) or _one(sentence) or sentence


def _one(sentence: str) -> str | None:
    if sentence in _exact():
        return gettext(sentence)
    for pattern, template in _patterns():
        found = pattern.fullmatch(sentence)
        if found:
            values = {name: _one(value) or value for name, value in found.groupdict().items()}
            return gettext(template) % values
    return None


@cache
def _exact() -> frozenset[str]:
    return frozenset(one for one in SENTENCES if not PLACE.search(one))


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Those with the most words of their own first.  A value is on one line and as short as can be."""
    templates = sorted(set(SENTENCES) - _exact(), key=lambda one: -len(PLACE.sub("", one)))
    return tuple((_pattern(one), one) for one in templates)


def _pattern(template: str) -> re.Pattern[str]:
    parts = PLACE.split(template)
    return re.compile(
        "".join(f"(?P<{part}>.+?)" if number % 2 else re.escape(part) for number, part in enumerate(parts))
    )


SENTENCES = (
    _("0.01 vCPU"),
    _("6 MiB of memory"),
    _("64 KiB of log"),
    _("one process"),
    _("%(mib)s MiB of memory"),
    _("%(number)s processes"),
    _("%(number)s vCPU"),
    _("A container that is %(state)s cannot become %(wanted)s."),
    _("A container uses the image."),
    _("A container with this id exists with another configuration."),
    _("A layer of the image has the entry %(entry)s, which leads out of the container."),
    _("A layer of the image has the entry %(entry)s, which %(what)s."),
    _("goes through a broken link"),
    _("goes through something that is not a folder"),
    _("is a device node or of an unknown kind"),
    _("links to nothing"),
    _("links to what is not in its layer"),
    _("replaces a folder by something else"),
    _("A layer of the image is damaged."),
    _("A layer of the image is damaged: %(what)s."),
    _("A layer of the image is not what its configuration says."),
    _("A layer of the image is too large to unpack."),
    _("A part of the image is missing."),
    _("A part of the image is not what its digest says: it was damaged on the way or in the registry."),
    _("A zero byte cannot be part of it."),
    _("Add it."),
    _("Add the registry with credentials."),
    _("All %(number)s subnets of %(block)s belong to tenants already."),
    _("Another operation has held %(what)s for more than %(seconds)s seconds."),
    _("Begin it with '/'."),
    _("Building the image failed in %(tool)s: %(why)s"),
    _("Check its address, and that it runs, then try again."),
    _("Check the command, or leave it empty to run the image's own."),
    _("Check the command."),
    _("Check the name and the tag."),
    _("Check the name."),
    _("Check the node's package sources and network with apt-get update, then try again."),
    _("Check the path."),
    _("Choose a directory of the image."),
    _("Choose another command or user."),
    _("Choose another host port, or leave it empty to get a free one."),
    _("Choose another, or remove the other container."),
    _("Choose another."),
    _("Correct the file."),
    _("Correct the registry's credentials."),
    _("Creating the container took more than a minute."),
    _("Do not use this image."),
    _("Give a command."),
    _("Give a group of the image."),
    _("Give a user of the image, or a number."),
    _("Give another."),
    _("Give the node a larger block in SLIPWAY_SUBNETS."),
    _("Host port %(port)s is given twice."),
    _("Install the package busybox-static."),
    _("Install the package conmon."),
    _("Install the package golang-github-containers-common."),
    _("Install the package mmdebstrap."),
    _("Install the package nftables."),
    _("Install the package runc."),
    _("It did not create a container in time."),
    _("It may have been removed."),
    _("Launch a new one."),
    _("Look at the node's disk."),
    _("Lower the limit."),
    _("No automatic port is free."),
    _("No container runtime works on this node (%(why)s)."),
    _("Port %(port)s/%(protocol)s of the node is taken."),
    _("Ports go from 1 to 65535."),
    _("Pull it again."),
    _("Pull it first."),
    _("Push it anew."),
    _("Raise it."),
    _("Raise the memory limit."),
    _("Rebuild the image with smaller ids."),
    _("Remove a container first."),
    _("Remove a container that publishes ports."),
    _("Remove images or containers and try again."),
    _("Remove images or containers, then try again."),
    _("Remove it."),
    _("Remove the container first."),
    _("Run apt-get update on the node."),
    _("SLIPWAY_SUBNETS is %(value)s, which is not an IPv4 network."),
    _("SLIPWAY_UID_BASE is %(value)s, which is not a number."),
    _("Save one for this architecture."),
    _("Save the image anew."),
    _("Save the image with docker save, or as OCI archive."),
    _("Set it to a private block such as 10.89.0.0/16."),
    _("Set net.ipv4.ip_forward to 1."),
    _("Squash the image."),
    _("Start it first."),
    _("Stop it first, or remove it by force."),
    _("The archive has no image for linux/%(architecture)s."),
    _("The archive is not there."),
    _("The command cannot be executed: permission denied."),
    _("The command did not end within %(seconds)s seconds."),
    _("The command did not start within 15 seconds."),
    _("The command is not a program of this node's architecture, or a script without '#!'."),
    _("The container could not be started: %(why)s"),
    _("The container does not end, even by SIGKILL."),
    _("The container exists already."),
    _("The container is being removed."),
    _("The container is not running."),
    _("The container is running."),
    _("The container runtime could not %(verb)s the container: %(why)s"),
    _("The container runtime did not answer to %(verb)s."),
    _("The container runtime does not let go of the container."),
    _("The container's supervisor ended before it answered."),
    _("The file is not an image archive, or is damaged."),
    _("The file is not an image archive."),
    _("The grace is not from 0 to 3600 seconds."),
    _("The image does not have the command, or the interpreter or library that the command needs."),
    _("The image has a manifest of schema 1, long out of use."),
    _("The image has files of owner %(owner)s; ids go up to %(most)s in a container."),
    _("The image has no command %(command)s."),
    _("The image has no group %(group)s."),
    _("The image has no user %(user)s."),
    _("The image has %(number)s layers, more than one overlay mount can hold."),
    _("The image is for %(system)s/%(architecture)s; this node is linux/%(wanted)s."),
    _("The image is not made for linux/%(wanted)s; it is there for %(have)s."),
    _("The image is not made for this architecture."),
    _("The image is not on this node."),
    _("The image must be pushed anew."),
    _("The image names content by something that is not a sha256 digest."),
    _("The image needs at least %(needed)s MiB of memory; the limit is %(limit)s MiB."),
    _("The image says no command to run."),
    _("The image %(image)s is not on this node."),
    _("The image's configuration does not fit its layers."),
    _("The image's description is not JSON."),
    _("The image's manifest is not one."),
    _("The image's manifest is too large."),
    _("The limit is below the least, %(least)s."),
    _("The memory limit is too low for the container to start."),
    _("The name %(name)s is taken."),
    _("The node does not forward IPv4 packets."),
    _("The node has no package source for its release."),
    _("The node has only %(most)s."),
    _("The node's disk is full, so the image could not be stored."),
    _("Command and environment together are longer than the kernel takes."),
    _("Give one, such as /bin/sh."),
    _("It is longer than the kernel takes."),
    _("Put a part into a file of the image."),
    _("Put it into a file of the image."),
    _("Restart the container."),
    _("Shorten it, or put it into a file."),
    _("The command is too long."),
    _("The container's network interface is gone."),
    _("The node's kernel refused: %(why)s."),
    _("There is no command to run."),
    _("Try again; the node's log has the details."),
    _("%(address)s is not an address of this node."),
    _("Boot without cgroup_disable= and let nothing else hold the controllers."),
    _("Run Slipway where the top cgroup holds no processes of its own, or in a cgroup that is delegated to it."),
    _("The kernel does not let the cgroup controller %(name)s be used for containers: %(why)s."),
    _("The kernel offers no cgroup controller %(names)s to containers."),
    _("The node's disk is full."),
    _("The node's system does not say which release it is."),
    _("The packages that the image is made of could not be fetched."),
    _("The protocol is neither tcp nor udp."),
    _("The recipe %(recipe)s cannot be read: %(why)s."),
    _("The recipe %(recipe)s lacks the key %(key)s."),
    _("The registry ended the download too early."),
    _("The registry %(registry)s has no image %(image)s."),
    _("The registry %(registry)s has no image %(image)s:%(tag)s."),
    _("The registry %(registry)s refused the user name or the password."),
    _("The registry %(registry)s wants a user name and a password, or has no such image."),
    _("The registry %(registry)s %(why)s."),
    _("answered with an error (HTTP %(status)s)"),
    _("asks for a kind of sign-in that is not supported"),
    _("broke off the download (%(why)s)"),
    _("cannot be reached"),
    _("cannot sign us in: its token service does not answer"),
    _("does not answer properly (%(why)s)"),
    _("names a sign-in address that is not safe"),
    _("The seccomp profile is missing, and containers are not started without one."),
    _("The tenant's network %(subnet)s has no free address."),
    _("The working directory is not absolute."),
    _("The working directory is not there."),
    _("There is no engine %(name)s."),
    _("There is no signal %(name)s."),
    _("There is no such application in the catalog."),
    _("There is no such container."),
    _("Try again in a moment."),
    _("Try again."),
    _("Try again; if it stays so, the image must be pushed anew."),
    _("Try again; the node's log has more."),
    _("Use 0.0.0.0 for all addresses of the node."),
    _("Use 3 to 32 lower-case letters and digits, a letter first."),
    _("Use Debian 12 or 13, or Ubuntu 24.04."),
    _("Use a name such as SIGTERM."),
    _("Use a smaller id."),
    _("Use a smaller image."),
    _("Use an image for this architecture."),
    _("Use another image."),
    _("Use another."),
    _("Use letters, digits and underscores, no digit first."),
    _("Use native or fake."),
    _("Use one."),
    _("Use up to 63 lower-case letters, digits and hyphens, a letter or digit first and last."),
    _("User and group ids go up to 65535."),
    _("Write it as [registry/]name[:tag]."),
    _("busybox is missing."),
    _("conmon is missing."),
    _("libnftables is missing."),
    _("mmdebstrap is missing."),
    _("nftables refused a batch: %(why)s"),
    _("out of memory"),
    _("supervisor lost"),
    _("it is empty, too long, or has spaces around it"),
    _("what follows '@' is not a sha256 digest"),
<<<<<<< HEAD
    _("%(host)s is not a registry's host name"),
    _("%(name)s is not a repository name; use lower-case letters, digits, '.', '_', '-' and '/'"),
    _("%(tag)s is not a tag"),
    _("%(name)s is not a name for an environment variable."),
    _("%(number)s is not a port."),
    _("%(name)s is not a valid name."),
    _("%(address)s is not an IPv4 address."),
    _("%(value)s is not an id."),
    _("%(reference)s is not an image reference: %(why)s."),
    _("The container is gone."),
    _("The node has lost this container and its data."),
    _("Remove it and launch a new one."),
    _("The container is gone from the node without a trace."),
    _("Something unforeseen went wrong."),
    _("The node's log has the details."),
    _("The worker was lost again and again while it worked on this."),
    _("Look at the node's log, then try again."),
    _("This socket is the web process's."),
    _("The kernel offers no cgroup controller %(names)s to containers."),
    _("Boot without cgroup_disable= and let nothing else hold the controllers."),
    _("The kernel does not let the cgroup controller %(name)s be used for containers: %(why)s."),
    _("Run Slipway where the top cgroup holds no processes of its own, or in a cgroup that is delegated to it."),
    _("The ticket is %(why)s."),
    _("The request is not one line of JSON with a ticket."),
    _("Boot without cgroup_disable= and let nothing else hold the controllers."),
    _("Run Slipway where the top cgroup holds no processes of its own, or in a cgroup that is delegated to it."),
    _("The kernel does not let the cgroup controller %(controller)s be used for containers: %(why)s."),
    _("The kernel offers no cgroup controller %(controller)s to containers."),
)
=======
    _("There is no such application in the catalog."),
    _("The image does not have the command, or the interpreter or library that the command needs."),
    _("The command is not a program of this node's architecture, or a script without '#!'."),
    _("The container exists already."),
    _("Choose another command or user."),
    _("Choose a directory of the image."),
    _("The container could not be started: %(why)s"),
    _("out of memory"),
    _("supervisor lost"),
    _("The container is gone from the node without a trace."),
)
_PLACE = re.compile(r"%\((\w+)\)s")


def in_the_readers_language(sentence: str) -> str:
    """A message, a hint, or the one followed by the other.  English where the catalog does not have it."""
    if not sentence or (get_language() or "en").startswith("en"):
        return sentence
    whole = gettext(sentence)
    if whole != sentence:
        return whole
    for hint in _hints():
        if sentence.endswith(f". {hint}"):
            return in_the_readers_language(sentence.removesuffix(f" {hint}")) + gettext(hint)
    for known, shape in _shapes():
        found = shape.fullmatch(sentence)
        if found:
            return gettext(known) % {name: in_the_readers_language(value) for name, value in found.groupdict().items()}
    return sentence


@functools.cache
def _hints() -> tuple[str, ...]:
    return tuple(
        sorted((one for one in SENTENCES if one.endswith(".") and not _PLACE.search(one)), key=len, reverse=True)
    )


@functools.cache
def _shapes() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Those with values, the most telling first: the one with the most words of its own."""
    found = sorted((one for one in SENTENCES if _PLACE.search(one)), key=lambda one: -len(_PLACE.sub("", one)))
    return tuple((one, _shape(one)) for one in found)


def _shape(sentence: str) -> re.Pattern[str]:
    pieces = _PLACE.split(sentence)
    return re.compile(
        "".join(f"(?P<{text}>.+?)" if place % 2 else re.escape(text) for place, text in enumerate(pieces)), re.DOTALL
    )
>>>>>>> ec468fe (A failure's reason reads in the reader's language wherever it is shown; a container that dug deeper than any path is removed)
