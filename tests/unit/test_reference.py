from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidSpec
from runtime.image.reference import Reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("nginx", "docker.io", "library/nginx", "latest", ""),
        ("team/app:1.2", "docker.io", "team/app", "1.2", ""),
        ("localhost/app", "localhost", "app", "latest", ""),
        ("127.0.0.1:5000/a/b/c:x", "127.0.0.1:5000", "a/b/c", "x", ""),
        (f"registry.example.org/app@{DIGEST}", "registry.example.org", "app", "", DIGEST),
        (f"registry.example.org/app:1@{DIGEST}", "registry.example.org", "app", "1", DIGEST),
    ],
)
def test_the_parts_of_a_reference(text: str, registry: str, repository: str, tag: str, digest: str) -> None:
    assert Reference.parse(text) == Reference(registry, repository, tag, digest)


@pytest.mark.parametrize(
    "text",
    ["", " nginx", "Nginx", "a//b", "a:", "a@sha256:12", "a:b c", "-x", "../x", "a/..", "x" * 401, "h:99999999/x"],
)
def test_what_is_no_reference_is_refused_on_the_field(text: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        Reference.parse(text)
    assert caught.value.field == "image"


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        parsed = Reference.parse(text)
    except InvalidSpec:
        return
    assert Reference.parse(str(parsed)) == parsed
    assert ".." not in parsed.repository.split("/")
