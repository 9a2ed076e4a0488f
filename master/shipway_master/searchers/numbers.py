"""Numbers as configurations have them: JSON knows one kind, and no text or truth value is one."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

from shipway_master.structs import whole_as_int

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1


def _whole(value: object) -> object:
    """Take 2.0 for 2: a free-form object of the API has only floating-point numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = Annotated[
    int, BeforeValidator(_whole), Field(strict=True, ge=-INT64_MAX - 1, le=INT64_MAX)
]
"""An integer of 64 bits."""

Number = Annotated[float, Field(strict=True, allow_inf_nan=False), PlainSerializer(whole_as_int)]
"""A finite number; written without fraction when it is whole."""
