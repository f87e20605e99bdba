"""Every envelope that a command prints in a test is what `ultra-ports schema` says."""

from __future__ import annotations

import json
from functools import cache

from jsonschema import Draft202012Validator

from resolver.cli.schema import SHAPES, schema_of

NAMES = {text: name for name, (text, _) in SHAPES.items()}


@cache
def validator(name: str) -> Draft202012Validator:
    """Of one schema, which is itself one."""
    schema = json.loads(json.dumps(schema_of(name)))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def check(stdout: str) -> None:
    """Fails where the output is one of our envelopes, and has another shape than its schema's."""
    if not stdout.startswith("{"):
        return
    try:
        found = json.loads(stdout)
    except ValueError:  # lines of events, each an envelope, or something else
        return
    name = NAMES.get(found.get("schema", ""))
    if name is not None:
        errors = [error.message for error in validator(name).iter_errors(found)]
        assert not errors, (name, errors[:3])
