"""Sizes of memory as users write them."""

from __future__ import annotations

import re
from typing import Final

_SIZE: Final = re.compile(r"((?:[0-9]*\.)?[0-9]+) ?(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_LARGEST: Final = 2**63 - 1
_LONGEST: Final = 40


def parse_size(value: object) -> object:
    """Turn a text such as `1.5g`, `512 MiB` or `1024` into bytes; anything else stays.

    Raises:
        ValueError: The text is no size.
    """
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value) if len(value) <= _LONGEST else None
    if found is None:
        raise ValueError(f"{value[:80]!r} is no size such as 4g or 512 MiB")
    size = int(float(found[1]) * 1024 ** _POWERS[(found[2] or "").lower()])
    if size > _LARGEST:
        raise ValueError(f"{value!r} is larger than any memory")
    return size
