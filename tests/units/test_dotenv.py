"""The `.env` grammar: the same texts are put to compose itself in the scenarios."""

from __future__ import annotations

import pytest

from resolver import dotenv
from resolver.errors import UsageError
from tests.lab.composefiles.dotenvs import ENVIRON, READ, REFUSED


@pytest.mark.parametrize("text", READ)
def test_a_text_is_read_as_compose_reads_it(text: str) -> None:
    assert dotenv.parse(text, ENVIRON) == READ[text]


@pytest.mark.parametrize("text", REFUSED)
def test_a_text_that_compose_refuses_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^line \d+: ") as caught:
        dotenv.parse(text, ENVIRON)
    assert str(caught.value).isprintable()


def test_the_line_that_makes_no_sense_is_named() -> None:
    with pytest.raises(UsageError, match=r"^line 4: "):
        dotenv.parse("A='1\n2'\n# fine\nnot a name=1\nB=2\n", {})


def test_the_last_line_may_be_a_name_alone() -> None:
    """Compose loses the name where no line break follows it, and then refuses the whole file."""
    assert dotenv.parse("B=1\nGIVEN", ENVIRON) == {"B": "1", "GIVEN": "given"}


def test_order_is_kept() -> None:
    assert list(dotenv.parse("B=1\nA=2\nC=3\n", {})) == ["B", "A", "C"]


def test_defaults_without_end_are_refused() -> None:
    with pytest.raises(UsageError, match="nested"):
        dotenv.parse("A=" + "${A:-" * 500 + "}" * 500, {})
