"""Text that came from the machine, made safe for a terminal: names can hold anything."""

from __future__ import annotations

LONGEST = 200


def escape(text: str, longest: int = LONGEST) -> str:
    """One printable line: control, format and undecodable characters escaped, the end cut.

    Args:
        text: a process name, a command line, a container name, an engine's message.
        longest: characters kept before the cut, which is marked with `…`.
    """
    cut = text if len(text) <= longest else text[:longest] + "…"
    if cut.isprintable():
        return cut
    return "".join(
        character if character.isprintable() else _escaped(character) for character in cut
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
