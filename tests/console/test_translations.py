"""Whatever the console and the runtime can say is in the catalog of each language, and is found there with the values that it was told with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings as configured
from django.test import Client
from django.utils import translation
from django.utils.translation import trans_real

from console.accounts.models import Tenant, User
from console.core.errors import person
from console.core.sentences import PLACE, SENTENCES, told
from console.live.consumers.base import _language
from console.workloads.models import Container
from runtime.errors import RuntimeFault
from tests.console.fault_sentences import sentences

SOURCE = configured.SOURCE
CATALOG = SOURCE / "locale/zh_Hans/LC_MESSAGES/django.po"
CJK = re.compile("[\u4e00-\u9fff]")
UNITS = re.compile(r"\{\} vCPU|0\.01 vCPU")
"""Words that are the same in every language."""


@pytest.fixture
def chinese(tmp_path: Path, settings: object) -> Iterator[None]:
    folder = tmp_path / "locale/zh_Hans/LC_MESSAGES"
    folder.mkdir(parents=True)
    subprocess.run(["msgfmt", "--check-format", "-o", folder / "django.mo", CATALOG], check=True)
    settings.LOCALE_PATHS = [tmp_path / "locale"]  # type: ignore[attr-defined]
    trans_real._translations.clear()  # type: ignore[attr-defined]
    with translation.override("zh-hans"):
        yield
    trans_real._translations.clear()  # type: ignore[attr-defined]


def spoken(shape: str) -> str:
    """As the runtime would say it, with a value in each place."""
    numbers = iter(range(1, 100))
    return re.sub(r"\{\}", lambda _: f"v{next(numbers)}", shape)


def test_the_source_is_read() -> None:
    """Of each way in which a sentence is made, one."""
    assert {
        "The container is not running.",  # a literal
        "The name {} is taken.",  # a value
        "The image has no command {}.",  # of the runtime's own words
        "The container could not be started: {}",  # by a default
        "cannot be reached",  # a clause that a function is called with
        "links to nothing",
        "one process",  # of a table
        "out of memory",  # a reason
    } <= sentences()


@pytest.mark.parametrize("shape", sorted(sentences()))
def test_each_sentence_of_the_runtime_is_told_in_chinese(chinese: None, shape: str) -> None:
    said = spoken(shape)
    read = told(said)
    assert CJK.search(read) or UNITS.fullmatch(shape), said
    for value in re.findall(r"v\d+", said):
        assert value in read
    fault = RuntimeFault(said, hint="Try again.")
    assert person(fault).message == read
    assert told(str(fault)) == f"{read} {told('Try again.')}" or UNITS.fullmatch(shape) or not said.endswith(".")


def test_each_template_is_found_by_what_was_made_from_it() -> None:
    """In English it reads as it was told: no other template takes it."""
    for template in SENTENCES:
        said = PLACE.sub("word", template)
        assert told(said) == said


def test_a_clause_within_a_sentence_is_translated_too(chinese: None) -> None:
    read = told("The registry r.example.org:5000 cannot be reached.")
    assert "r.example.org:5000" in read
    assert told("cannot be reached") in read
    assert "cannot" not in read


def test_what_nobody_knows_stays_as_it_is(chinese: None) -> None:
    for said in ("", "An unknown thing happened.", "100% of %(nothing)s", "two\nlines", "A " * 2000):
        assert told(said) == said


@pytest.mark.django_db
def test_a_failed_container_is_read_in_chinese(chinese: None, tenant: Tenant, member: User) -> None:
    reason = "The image needs at least 64 MiB of memory; the limit is 32 MiB. Raise the memory limit."
    container = Container.objects.create(
        tenant=tenant,
        node="n",
        name="web",
        image_reference="x",
        memory_bytes=1,
        cpu_millis=1,
        state="failed",
        reason=reason,
    )
    container.events.create(kind="failed", data={"message": "The name 'web' is taken.", "hint": "Choose another."})
    container.events.create(kind="exited", data={"exit_code": 137, "reason": "out of memory"})
    client = Client(headers={"Accept-Language": "zh-CN"})
    client.force_login(member)
    for path in (f"/containers/{container.id}/status/", f"/containers/{container.id}/events/", "/"):
        page = client.get(path).content.decode()
        for english in ("Raise the memory limit", "is taken", "out of memory"):
            assert english not in page
    assert "镜像至少需要 64 MiB" in client.get(f"/containers/{container.id}/status/").content.decode()


@pytest.mark.parametrize(
    ("cookie", "accepted", "expected"),
    [
        ("", "", "en"),
        ("", "zh-CN,zh;q=0.9,en;q=0.8", "zh-hans"),
        ("en", "zh-CN", "en"),
        ("zh-hans", "en", "zh-hans"),
        ("xx", "xx-YY, zh-CN;q=0.5", "zh-hans"),
        ("'\"", "\x00;;q=", "en"),
    ],
)
def test_a_live_page_speaks_the_language_of_its_page(cookie: str, accepted: str, expected: str) -> None:
    headers = [(b"cookie", f"django_language={cookie}".encode()), (b"accept-language", accepted.encode())]
    assert _language({"headers": headers}) == expected


def test_nothing_that_a_person_reads_is_without_chinese(tmp_path: Path) -> None:
    """By gettext's own tools, over the console's source and the templates."""
    for name in ("console", "templates", "locale"):
        shutil.copytree(SOURCE / name, tmp_path / name, ignore=shutil.ignore_patterns("*.mo", "__pycache__"))
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    django = [sys.executable, "-m", "django", "makemessages", "-l", "zh_Hans", "--no-location", "--pythonpath", "."]
    subprocess.run(django, cwd=tmp_path, check=True, env=environment, capture_output=True)
    catalog = tmp_path / "locale/zh_Hans/LC_MESSAGES/django.po"
    missing = subprocess.run(
        ["msgattrib", "--untranslated", "--no-obsolete", catalog], check=True, capture_output=True, text=True
    ).stdout
    guessed = subprocess.run(
        ["msgattrib", "--only-fuzzy", "--no-obsolete", catalog], check=True, capture_output=True, text=True
    ).stdout
    found = re.findall(r'^msgid "(.+)"|^msgid ""\n"(.+)"', missing + guessed, re.MULTILINE)
    assert [one or other for one, other in found if "Project-Id" not in one + other] == []
