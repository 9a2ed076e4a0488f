"""Write YAML that every parser reads as what was meant."""

from __future__ import annotations

_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def quote(text: str) -> str:
    """Return *text* as a double-quoted YAML scalar of printable ASCII.

    A name such as `yes`, `00123` or `1e3` stays text, and no byte of a user's job name can end it.
    """
    return '"' + "".join(_escape(character) for character in text) + '"'


def _escape(character: str) -> str:
    code = ord(character)
    if short := _SHORT.get(character):
        return short
    if 0x20 <= code < 0x7F:
        return character
    if 0xD800 <= code < 0xE000:  # a byte that was no UTF-8; YAML has no way to write it
        return "\\uFFFD"
    if code < 0x100:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
