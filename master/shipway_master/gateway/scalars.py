"""Single values: what JSON and query strings may hold for each kind of field, and what we write."""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from shipway_master.structs import whole_as_int


class WrongValue(ValueError):
    """A value does not fit its field; the text says why, and `place` grows on its way up."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem, self.place = problem, ""

    def inside(self, name: str) -> WrongValue:
        """Say that the value was found inside of *name*."""
        joint = "." if self.place and not self.place.startswith("[") else ""
        self.place = f"{name}{joint}{self.place}"
        return self

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}" if self.place else self.problem


Kind = FieldDescriptor
_INT32: Final = {Kind.TYPE_INT32, Kind.TYPE_SINT32, Kind.TYPE_SFIXED32}
_UINT32: Final = {Kind.TYPE_UINT32, Kind.TYPE_FIXED32}
_INT64: Final = {Kind.TYPE_INT64, Kind.TYPE_SINT64, Kind.TYPE_SFIXED64}
_UINT64: Final = {Kind.TYPE_UINT64, Kind.TYPE_FIXED64}

WRAPPERS: Final = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
"""Messages that are written as the one value in them."""

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_NUMBER = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?")
_SPECIAL = {"nan": math.nan, "infinity": math.inf, "-infinity": -math.inf}
_TRUE, _FALSE = {"1", "t", "T", "true", "TRUE", "True"}, {"0", "f", "F", "false", "FALSE", "False"}
_FLOAT_MAX = 3.4028234663852886e38
_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d{2}):(\d{2}))",
    re.ASCII,
)
_DURATION = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s", re.ASCII)


def map_entry(field: FieldDescriptor) -> Descriptor | None:
    """Get the key and value of a map; None when *field* is none."""
    entry = field.message_type
    return entry if entry is not None and entry.GetOptions().map_entry else None


def reader(field: FieldDescriptor) -> Callable[[Any], Any]:
    """Make the function that takes a JSON value for one *field* (not its list) of a scalar kind.

    Raises (the made function):
        WrongValue: The value does not fit.
    """
    kind = field.type
    if kind in _INT32:
        return _integers(-(1 << 31), (1 << 31) - 1)
    if kind in _UINT32:
        return _integers(0, (1 << 32) - 1)
    if kind in _INT64:
        return _integers(-(1 << 63), (1 << 63) - 1)
    if kind in _UINT64:
        return _integers(0, (1 << 64) - 1)
    if field.enum_type is not None:
        return _enums(field.enum_type)
    return {
        Kind.TYPE_STRING: _string,
        Kind.TYPE_BYTES: _bytes,
        Kind.TYPE_BOOL: _boolean,
        Kind.TYPE_DOUBLE: _double,
        Kind.TYPE_FLOAT: _float,
    }[kind]


def text_reader(field: FieldDescriptor) -> Callable[[str], Any]:
    """Make the function that takes a path or query text for one *field*; raises as `reader`."""
    if field.type == Kind.TYPE_BOOL:
        return _boolean_text
    read = reader(field)
    if field.type == Kind.TYPE_ENUM:
        return lambda text: read(int(text) if _INTEGER.fullmatch(text) else text)
    return read


def writer(field: FieldDescriptor) -> Callable[[Any], Any] | None:
    """Make the function that turns a value of *field* into JSON data; None: it is so already."""
    kind = field.type
    if kind in _INT64 or kind in _UINT64:
        return str
    if field.enum_type is not None:
        names = _enum_names(field.enum_type)
        return lambda number: names.get(number, number)
    writers: dict[int, Callable[[Any], Any]] = {
        Kind.TYPE_BYTES: _write_bytes,
        Kind.TYPE_DOUBLE: write_double,
        Kind.TYPE_FLOAT: _write_float,
    }
    return writers.get(kind)


def _write_bytes(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def write_double(number: float) -> int | float | str:
    """Turn a double into JSON data: whole without fraction, not finite as text."""
    if math.isfinite(number):
        return whole_as_int(number)
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _write_float(number: float) -> int | float | str:
    """As `write_double`, with the fewest digits that make the same 32-bit float."""
    if not math.isfinite(number):
        return write_double(number)
    for digits in (6, 7, 8):
        short = float(f"{number:.{digits}g}")
        if struct.pack("f", short) == struct.pack("f", number):
            return whole_as_int(short)
    return whole_as_int(float(f"{number:.9g}"))


def read_time(value: Any) -> Timestamp:
    """Take an RFC 3339 time of any offset."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise WrongValue(f"{_shown(value)} is no RFC 3339 time")
    date, time, fraction, zulu, sign, hours, minutes = match.groups()
    offset = timedelta() if zulu else timedelta(hours=int(hours), minutes=int(minutes))
    try:
        local = datetime.fromisoformat(f"{date}T{time}").replace(tzinfo=UTC)
        moment = local + offset if sign == "-" else local - offset
    except (ValueError, OverflowError) as error:
        raise WrongValue(f"{_shown(value)} is no RFC 3339 time: {error}") from error
    return Timestamp(
        seconds=int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()),
        nanos=int((fraction or "").ljust(9, "0")),
    )


def write_time(value: Timestamp) -> str:
    """Write a time in UTC with 0, 3, 6 or 9 digits of fraction."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value.seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + _fraction(value.nanos) + "Z"


def read_duration(value: Any) -> Duration:
    """Take a duration as `1.5s`."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise WrongValue(f"{_shown(value)} is no duration as '1.5s'")
    sign = -1 if match[1] else 1
    return Duration(seconds=sign * int(match[2]), nanos=sign * int((match[3] or "").ljust(9, "0")))


def write_duration(value: Duration) -> str:
    """Write a duration in seconds, with 0, 3, 6 or 9 digits of fraction."""
    sign = "-" if value.seconds < 0 or value.nanos < 0 else ""
    return f"{sign}{abs(value.seconds)}{_fraction(abs(value.nanos))}s"


def _fraction(nanos: int) -> str:
    if not nanos:
        return ""
    digits = f"{nanos:09}"
    return "." + (digits[:3] if digits.endswith("000000") else digits.removesuffix("000"))


def _integers(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        number: int
        if type(value) is int:
            number = value
        elif (isinstance(value, str) and _INTEGER.fullmatch(value)) or (
            isinstance(value, float) and value.is_integer()
        ):
            number = int(value)
        else:
            raise WrongValue(f"{_shown(value)} is no whole number")
        if not low <= number <= high:
            raise WrongValue(f"{_shown(value)} does not lie in {low}…{high}")
        return number

    return read


def _double(value: Any) -> float:
    if isinstance(value, float) or type(value) is int:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isinf(number):
            raise WrongValue(f"{_shown(value)} is too large")
        return number
    if isinstance(value, str):
        if value.lower() in _SPECIAL:
            return _SPECIAL[value.lower()]
        if _NUMBER.fullmatch(value):
            return float(value)
    raise WrongValue(f"{_shown(value)} is no number")


def _float(value: Any) -> float:
    number = _double(value)
    if math.isfinite(number) and abs(number) > _FLOAT_MAX:
        raise WrongValue(f"{_shown(value)} is too large for 32 bits")
    return number


def _boolean(value: Any) -> bool:
    if value is True or value is False:
        return value
    raise WrongValue(f"{_shown(value)} is neither true nor false")


def _boolean_text(text: str) -> bool:
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise WrongValue(f"{_shown(text)} is neither true nor false")


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise WrongValue(f"{_shown(value)} is no text")
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise WrongValue(f"{_shown(value)} is no base64 text")
    plain = value.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise WrongValue(f"{_shown(value)} is no base64 text") from error


def _enums(enum: EnumDescriptor) -> Callable[[Any], int]:
    by_name = {value.name: value.number for value in enum.values}
    # The log shipper of tasks sends ERROR where LOG_LEVEL_ERROR is meant.
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    numbers = set(by_name.values())

    def read(value: Any) -> int:
        if isinstance(value, str):
            number = by_name.get(value, by_name.get(prefix + value))
            if number is not None:
                return number
        elif type(value) is int and value in numbers:
            return value
        raise WrongValue(f"{_shown(value)} is no {enum.name}")

    return read


@cache
def _enum_names(enum: EnumDescriptor) -> dict[int, str]:
    return {number: value.name for number, value in enum.values_by_number.items()}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
