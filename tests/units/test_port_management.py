"""docs/port-management.md: its files are those in examples/, its links lead somewhere."""

from __future__ import annotations

import re

import pytest

from tests.lab import pages
from tests.lab.processes import ROOT

PAGE = ROOT / "docs" / "port-management.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = pages.blocks(PAGE)


def test_what_looks_like_a_file_is_that_file() -> None:
    for block in BLOCKS:
        if block.language == "console":
            assert not block.file
            continue
        assert block.file, f"line {block.line}: neither a session nor a file"
        assert block.text == (ROOT / block.file).read_text(encoding="utf-8"), block.file


def test_every_example_is_on_the_page() -> None:
    there = (ROOT / "examples").rglob("*")
    files = sorted(str(path.relative_to(ROOT)) for path in there if path.is_file())
    pages_beside = (ROOT / "docs" / name for name in ("integrations.md", "many-checkouts.md"))
    elsewhere = "".join(page.read_text(encoding="utf-8") for page in pages_beside)
    here = [each for each in files if each not in elsewhere]
    assert sorted(each.file for each in BLOCKS if each.file) == here


def test_every_session_has_a_stage() -> None:
    sessions = [each for each in BLOCKS if each.language == "console"]
    assert all(each.stage for each in sessions)
    assert TEXT.count("$ ultra-ports") == sum(each.text.count("$ ultra-ports") for each in sessions)
    assert TEXT.count("<!-- stage:") == len(sessions)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        path, _, anchor = target.partition("#")
        page = (PAGE.parent / path) if path else PAGE
        assert page.exists(), target
        if anchor:
            assert anchor in anchors(page.read_text(encoding="utf-8")), target


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as code forges make them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize(
    ("printed", "happened", "same"),
    [
        ("python 25", "python 31", True),
        ("python 25", "python", False),
        ("8085/tcp free", "8085/tcp  free", True),
        ("8085/tcp free", "3000/tcp free", False),
        ("freed: ended after 0.2 s", "freed: ended after 0.15 s", True),
        ("freed: ended after 0.2 s", "freed: stopped after 0.2 s", False),
        ("id aa1f7a4a5f31 root", "id 0123456789ab root", True),
        ("id aa1f7a4a5f31 root", "id 0123456789ab ada", False),
        ("127.0.0.1:8085", "127.0.0.1:8085", True),
        ("because ... starts it", "because bash 7 starts it", True),
        ("one\n...\ntwo", "one\nand\nmore\ntwo", True),
        ("one\n...\ntwo", "one\ntwo", True),
        ("one\ntwo", "one\nand\ntwo", False),
        ("one", "one\ntwo", False),
        ("a.c (b)?", "abc b", False),
        ("a.c (b)?", "a.c (b)?", True),
    ],
)
def test_what_is_printed_is_compared_loosely(printed: str, happened: str, *, same: bool) -> None:
    told = pages.commands(f"$ run\n{printed}")
    played = [pages.Command("run", happened.splitlines())]
    assert (not pages.differences(told, played, {"8085", "3000"})) is same


def test_an_exit_status_is_told_or_zero() -> None:
    told = pages.commands("$ false\n$ echo $?\n1\n$ true\nx")
    assert [(each.typed, each.status, each.printed) for each in told] == [
        ("false", 1, []),
        ("true", 0, ["x"]),
    ]
    assert pages.differences(told[:1], [pages.Command("false")], ()) == ["false: exit 0, not 1"]
    assert pages.differences(told, [pages.Command("false", [], 1)], ()) == ["1 of 2 commands ran"]


def test_only_whole_words_are_substituted() -> None:
    names = {"8085": "7", "shop": "x", "/srv/shop": "/y"}
    assert pages.substituted("shop-api 8085 80855 /srv/shop/a workshop", names) == (
        "x-api 7 80855 /y/a workshop"
    )
