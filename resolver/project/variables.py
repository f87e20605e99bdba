"""The variables of `.env`, as python-dotenv reads them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from dotenv import parser, variables

from resolver.errors import UsageError
from resolver.project.checked import shown

if TYPE_CHECKING:
    from collections.abc import Mapping


def parse(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that the text sets, in order.

    Args:
        text: the file's.
        environ: what `${NAME}` stands for before the file's own variables.

    Raises:
        UsageError: a line makes no sense; the message has its number.
    """
    found: dict[str, str] = {}
    for each in parser.parse_stream(io.StringIO(text.removeprefix("\ufeff"))):
        if each.error:
            line = each.original.string.strip()
            raise UsageError(f"line {each.original.line}: expected NAME=value, not {shown(line)}")
        if each.key is None:
            continue
        known = {**found, **environ}
        parts = variables.parse_variables(each.value or "")
        found[each.key] = "".join(part.resolve(known) for part in parts)
    return found
