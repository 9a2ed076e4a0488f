"""How much the launcher says of itself, changed while it runs; the next start reads the settings again."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from shipway_launcher.errors import WrongRequest

OFF = "false"
"""The API's word for silence, which YAML once made of `off`."""

_TRACE = 5
_SILENCE = logging.CRITICAL + 10
_LEVELS = {
    OFF: _SILENCE,
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
    "TRACE": _TRACE,
}
ROOT = "root"


def known_loggers() -> dict[str, str]:
    """Return the level that counts for each logger, by its name."""
    names = sorted(
        name
        for name, found in logging.root.manager.loggerDict.items()
        if isinstance(found, logging.Logger)
    )
    return {name: level_of(name) for name in (ROOT, *names)}


def level_of(name: str) -> str:
    """Return the level that counts for a logger.

    Raises:
        WrongRequest: There is no such logger.
    """
    number = _find(name).getEffectiveLevel()
    if number > logging.ERROR:
        return OFF if number > logging.CRITICAL else "ERROR"
    return next(word for word, level in reversed(_LEVELS.items()) if level >= max(number, _TRACE))


def set_levels(levels: Mapping[str, object]) -> None:
    """Set the levels of loggers, all or none.

    Raises:
        WrongRequest: A logger or a level is not known.
    """
    found = [(_find(name), _number(level)) for name, level in levels.items()]
    for logger, number in found:
        logger.setLevel(number)


def _find(name: str) -> logging.Logger:
    if name == ROOT:
        return logging.root
    logger = logging.root.manager.loggerDict.get(name)
    if not isinstance(logger, logging.Logger):
        raise WrongRequest(f"there is no logger {name[:200]!r}; GET /admin/loggers lists them")
    return logger


def _number(level: object) -> int:
    word = OFF if level is False else level
    if not isinstance(word, str) or word not in _LEVELS:
        raise WrongRequest(f"{str(level)[:40]!r} is no level; levels are {', '.join(_LEVELS)}")
    return _LEVELS[word]
