"""Every envelope that a test sees is what `ultra-ports schema` says, printed or served."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator

from resolver.cli.schema import SHAPES, schema_of

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = {schema_of(name)["title"]: name for name in SHAPES}


@cache
def validator(name: str) -> Draft202012Validator:
    """Of one schema, which is itself one."""
    schema = json.loads(json.dumps(schema_of(name)))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def check(output: str) -> None:
    """Fails where the output has an envelope of ours with another shape than its schema's.

    An envelope is all of the output, or one of its lines, as events are; or it is the result in an
    answer of `ultra-ports mcp`.
    """
    for found in _documents(output):
        text = found.get("schema", "")
        if not str(text).startswith("ultra-ports."):
            continue
        assert text in NAMES, f"{text} has no schema"
        errors = [error.message for error in validator(NAMES[text]).iter_errors(found)]
        assert not errors, (text, errors[:3])


def read(output: str | bytes) -> Any:  # noqa: ANN401 - JSON
    """What the JSON says; fails as `check` does."""
    text = output if isinstance(output, str) else output.decode()
    check(text)
    return json.loads(text)


def _documents(output: str) -> Iterator[dict[str, Any]]:
    for text in (output, *output.splitlines()):
        if not text.startswith("{"):
            continue
        try:
            found = json.loads(text)
        except ValueError:
            continue
        yield found
        if isinstance(found.get("result"), dict):
            yield found["result"]
        if text is output:
            return
