"""The proxies that a node's administrator has written down, for the task and its image."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

FILES = (Path("/etc/environment"), Path("/etc/sysconfig/proxy"))

_EXCEPT = "no_proxy"
_KINDS = (
    *("http_proxy", "https_proxy", "ftp_proxy", "rsync_proxy", "gopher_proxy", "socks_proxy"),
    *("socks5_server", _EXCEPT),
)
_LINE = re.compile(r"\s*(?:export\s+)?(\w+)=(.*)")


def read_proxies(files: Sequence[Path] = FILES) -> dict[str, str]:
    """Return what the files say, by names in small letters; a later file wins. Blocking."""
    found: dict[str, str] = {}
    for path in files:
        try:
            text = path.read_text("utf-8", "surrogateescape")
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning("cannot read which proxies this node has: %s", error)
            continue
        found |= parse_proxies(text)
    return found


def parse_proxies(text: str) -> dict[str, str]:
    """Read lines such as `https_proxy=http://…` and `HTTP_PROXY="http://…"`.

    `PROXY_ENABLED="no"`, as SUSE's file has it, means none.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        try:
            words = shlex.split(match[2], comments=True)
        except ValueError:  # a quote without its end
            continue
        found[match[1].lower()] = " ".join(words)
    if found.get("proxy_enabled", "yes").lower() == "no":
        return {}
    return {name: found[name] for name in _KINDS if found.get(name)}


def proxy_variables(
    proxies: Mapping[str, str], own: Mapping[str, str], *, direct: Sequence[str]
) -> dict[str, str]:
    """Return the variables to add to a task's *own*, in small and in capital letters.

    What the task sets itself, in either spelling, stays as it is.

    Args:
        proxies: From `read_proxies`.
        own: The task's variables.
        direct: URLs of what must be reached without a proxy.
    """
    if not set(proxies) - {_EXCEPT}:
        return {}
    hosts = [urlsplit(url).hostname for url in direct]
    spared = [*proxies.get(_EXCEPT, "").split(","), "localhost", "127.0.0.1", *hosts]
    wanted = {
        **proxies,
        _EXCEPT: ",".join(dict.fromkeys(host.strip() for host in spared if host and host.strip())),
    }
    return {
        spelled: value
        for name, value in wanted.items()
        if name not in own and name.upper() not in own
        for spelled in (name, name.upper())
    }
