"""A certificate of loopback that is its own authority, for servers and clients."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def make_certificate(folder: Path) -> None:
    """Write key.pem, cert.pem and ca.pem into *folder*, as Docker's clients want them."""
    folder.mkdir(exist_ok=True)
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subject = ["-subj", "/CN=lab", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*words, *files, *subject], check=True, capture_output=True)
    (folder / "ca.pem").write_bytes((folder / "cert.pem").read_bytes())


def server_context(folder: Path) -> ssl.SSLContext:
    """Return what a server needs to show a new certificate, which nobody has reason to trust."""
    make_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context
