"""Names of container images, as Docker and the registries read them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shipway_agent.errors import SpecUnsupported

HUB = "docker.io"

_hub_aliases = frozenset(
    {HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
)
_component = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_path = re.compile(rf"{_component}(?:/{_component})*")
_domain = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?")
_tag = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_digest = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageName:
    """An image's name in full."""

    domain: str
    path: str
    tag: str | None
    digest: str | None

    @property
    def repository(self) -> str:
        """Domain and path, which is what a registry calls it."""
        return f"{self.domain}/{self.path}"

    @property
    def version(self) -> str:
        """Which of the repository's images: the digest if there is one, else the tag."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse_image_name(text: str) -> ImageName:
    """Read an image's name; what it leaves out is filled in as Docker does.

    Raises:
        SpecUnsupported: It is no such name.
    """
    rest, _, digest = text.partition("@")
    if "@" in text and not _digest.fullmatch(digest):
        raise SpecUnsupported(f"error parsing image name {text!r}: the digest is not valid")
    repository, _, tag = rest.rpartition(":")
    if not repository or "/" in tag:  # the colon, if any, belongs to a port
        repository, tag = rest, ""
    domain, slash, path = repository.partition("/")
    if not slash or not ("." in domain or ":" in domain or domain == "localhost"):
        domain, path = HUB, repository
    domain = registry_domain(domain)
    if domain == HUB and "/" not in path:
        path = f"library/{path}"
    if not _path.fullmatch(path) or not _domain.fullmatch(domain) or len(domain + path) > 254:
        raise SpecUnsupported(f"error parsing image name {text!r}: the name is not valid")
    if rest.endswith(":") or (tag and not _tag.fullmatch(tag)):
        raise SpecUnsupported(f"error parsing image name {text!r}: the tag is not valid")
    if not tag and not digest:
        tag = "latest"
    return ImageName(domain=domain, path=path, tag=tag or None, digest=digest or None)


def registry_domain(address: str) -> str:
    """Return the domain of a registry's address, whichever way people write it."""
    host = re.sub(r"^https?://", "", address).partition("/")[0].rpartition("@")[2]
    return HUB if host in _hub_aliases else host
