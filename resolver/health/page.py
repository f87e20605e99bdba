"""The page that `serve` shows: one file, and the policy that keeps everything else away."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import NamedTuple

_INLINE = r"<{0}>(.*?)</{0}>"


class Page(NamedTuple):
    """The document, and its Content-Security-Policy (CSP level 3)."""

    body: bytes
    policy: str


def page() -> Page:
    """The page; only its own script and style run, and only this server can be asked."""
    text = files("resolver.health").joinpath("page.html").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src {_source(text, 'script')}; "
        f"style-src {_source(text, 'style')}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    )
    return Page(text.encode(), policy)


def _source(text: str, element: str) -> str:
    """The hash of the one element of this kind, by which the policy lets it through."""
    (inline,) = re.findall(_INLINE.format(element), text, re.DOTALL)
    digest = hashlib.sha256(inline.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
