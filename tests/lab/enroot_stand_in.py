"""A stand-in for the program enroot, as version 3.5.0 was seen to behave.

It runs commands for real, in a user and a mount namespace like Enroot's own, and keeps to what makes
Enroot hard to use: the environment goes through a file of lines from which quotes and blanks are
cut, mounts are refused if they hold blanks, the container's shell runs whatever is to run, and the
container's processes are the very process that was started. Images are tars instead of squashfs.

Errors are Enroot's: `[ERROR] …` and exit status 1.
"""

from __future__ import annotations

import base64
import ctypes
import gzip
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn

VERSION = "3.5.0"
USAGE = """Usage: enroot start [options] [--] NAME|IMAGE [COMMAND] [ARG...]

 Options:
   -c, --conf CONFIG    Specify a configuration script to run before the container starts
   -e, --env KEY[=VAL]  Export an environment variable inside the container
       --rc SCRIPT      Override the command script inside the container
   -r, --root           Ask to be remapped to root inside the container
   -w, --rw             Make the container root filesystem writable
   -m, --mount FSTAB    Perform a mount from the host inside the container (colon-separated)
"""
SYSTEM_MOUNTS = """
/proc /proc none x-create=dir,rbind,rw,nosuid,nodev,noexec,rslave
/sys /sys none x-create=dir,rbind,ro,nosuid,nodev,noexec,rslave
/dev /dev none x-create=dir,rbind,rw,nosuid,noexec,rslave
tmpfs /tmp tmpfs x-create=dir,rw,nosuid,nodev,mode=755,slave
tmpfs /var/run tmpfs x-create=dir,rw,nosuid,nodev,mode=755,slave
/etc/hosts /etc/hosts none x-create=file,bind,ro,nosuid,nodev,noexec,private
/etc/resolv.conf /etc/resolv.conf none x-create=file,bind,ro,nosuid,nodev,noexec,private
"""
FLAGS = {
    "ro": 1,
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "remount": 32,
    "bind": 4096,
    "rbind": 4096 | 16384,
    "private": 1 << 18,
    "rprivate": 1 << 18 | 16384,
    "slave": 1 << 19,
    "rslave": 1 << 19 | 16384,
    "shared": 1 << 20,
    "rshared": 1 << 20 | 16384,
}
PROPAGATION = 1 << 18 | 1 << 19 | 1 << 20
REC, REMOUNT, BIND, DETACH = 16384, 32, 4096, 2

libc = ctypes.CDLL(None, use_errno=True)


def tell(words: str) -> None:
    """Say what is being done, or went wrong."""
    sys.stderr.write(f"{words}\n")


def fail(words: str, *, level: str = "[ERROR] ") -> NoReturn:
    """End as Enroot does."""
    tell(f"{level}{words}")
    raise SystemExit(1)


def setting(name: str, default: str) -> Path:
    """Return one of Enroot's folders."""
    return Path(os.environ.get(name) or default)


HOME = os.environ.get("HOME", "/root")
DATA = setting("ENROOT_DATA_PATH", f"{HOME}/.local/share/enroot")
RUNTIME = setting("ENROOT_RUNTIME_PATH", "/run/enroot")
CONFIG = setting("ENROOT_CONFIG_PATH", f"{HOME}/.config/enroot")
CACHE = setting("ENROOT_CACHE_PATH", f"{HOME}/.cache/enroot")


def main(words: list[str]) -> None:
    """Do what the command line says."""
    for folder in (DATA, RUNTIME, CACHE):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    match words:
        case ["version"]:
            sys.stdout.write(f"{VERSION}\n")
        case ["start", "--help"]:
            sys.stdout.write(USAGE)
        case ["create", "--name", name, "--", image]:
            create(name, Path(image))
        case ["start", *options]:
            start(options)
        case ["import", "--output", target, "--", uri]:
            fetch(uri, Path(target))
        case ["list"]:
            sys.stdout.write("".join(f"{name}\n" for name in sorted(os.listdir(DATA))))
        case ["remove", "--force", "--", name]:
            shutil.rmtree(DATA / name)
        case ["_inside", plan]:
            inside(Plan(**json.loads(plan)))
        case _:
            sys.stdout.write(USAGE)
            raise SystemExit(1)


def create(name: str, image: Path) -> None:
    """Unpack an image as a container."""
    if not image.is_file():
        fail(f"No such file or directory: {image}")
    if (DATA / name).exists():
        fail(f"File already exists: {DATA / name}")
    tell("[INFO] Extracting squashfs filesystem...")
    try:
        with tarfile.open(image) as archive:
            archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
            archive.extractall(DATA / name)
    except tarfile.ReadError:
        fail(f"Invalid image format: {image}")


@dataclass(kw_only=True)
class Plan:
    """A container to be started."""

    rootfs: str = ""
    words: list[str] = field(default_factory=list[str])
    conf: str = ""
    rc: str = ""
    rw: bool = False
    mounts: list[str] = field(default_factory=list[str])
    environ: list[str] = field(default_factory=list[str])

    def check(self) -> None:
        """Refuse what Enroot refuses."""
        for texts, form in (
            (self.mounts, r"[^\s]+(:[^\s]+)*"),
            (self.environ, r"[^\W\d]\w*(=.*)?"),
        ):
            for text in texts:
                if not re.fullmatch(form, text, re.ASCII):
                    fail(f"Invalid argument: {text}")
        for path in (self.conf, self.rc):
            if path and not os.path.isfile(path):
                fail(f"No such file or directory: {path}")


def start(words: list[str]) -> None:
    """Check the arguments, and go on in namespaces of our own."""
    plan = Plan()
    while words and words[0].startswith("-"):
        match words.pop(0):
            case "--":
                break
            case "--rw":
                plan.rw = True
            case "--conf":
                plan.conf = words.pop(0)
            case "--rc":
                plan.rc = words.pop(0)
            case "--mount":
                plan.mounts.append(words.pop(0))
            case "--env":
                plan.environ.append(words.pop(0))
            case _:
                sys.stdout.write(USAGE)
                raise SystemExit(1)
    name, plan.words = words[0], words[1:]
    if "/" in name:
        fail(f"Invalid argument: {name}")
    if not (DATA / name).is_dir():
        fail(f"No such file or directory: {DATA / name}")
    plan.rootfs = str(DATA / name)
    plan.check()
    namespaces = ["--user", "--map-current-user", "--keep-caps", "--mount", "--propagation=slave"]
    text = json.dumps(asdict(plan))
    argv = ["unshare", *namespaces, sys.executable, "-I", __file__, "_inside", text]
    os.execvp(argv[0], argv)


def inside(plan: Plan) -> None:
    """Set the container up, and become its first process."""
    rootfs = plan.rootfs
    mount("tmpfs", str(RUNTIME), "tmpfs", 0, "mode=700")
    mount(rootfs, rootfs, None, BIND, "")
    (Path(rootfs) / ".lock").touch()
    given = "".join(f"{text}\n" for text in plan.environ).encode()
    variables = environment(rootfs, ask(plan.conf, "environ") + given)
    for line in SYSTEM_MOUNTS.strip().splitlines():
        if os.path.exists(line.split()[0]) or line.startswith("tmpfs"):
            mount_line(rootfs, line)
    for asked in ask(plan.conf, "mounts").splitlines():
        mount_line(rootfs, os.fsdecode(asked))
    for mounted in plan.mounts:
        source, target = mounted.split(":")[:2]
        kind = "dir" if os.path.isdir(source) else "file"
        mount_line(rootfs, f"{source} {target} none rbind,x-create={kind}")
    script = Path(plan.rc).read_bytes() if plan.rc else None
    if not plan.rw:
        mount("none", rootfs, None, REMOUNT | BIND | FLAGS["ro"], "")
    os.chdir(rootfs)
    if libc.syscall(155, b".", b".") != 0:  # pivot_root on x86-64
        fail(f"failed to switch root: {rootfs}", level="enroot-switchroot: ")
    libc.umount2(b".", DETACH)
    os.chroot(".")
    os.chdir("/")
    libc.prctl(38, 1, 0, 0, 0)  # no new privileges
    os.closerange(3, 1024)
    become(script, plan.words, variables)


def become(script: bytes | None, words: list[str], variables: dict[bytes, bytes]) -> NoReturn:
    """Run the command script, or the command, by the container's shell."""
    shell = variables.get(b"SHELL", b"/bin/sh").decode()
    is_login = os.environ.get("ENROOT_LOGIN_SHELL", "yes")[:1].lower() not in {"n", "f"}
    name = ("-" if is_login else "") + os.path.basename(shell)
    if script is not None:
        descriptor = os.memfd_create("rc", 0)
        os.write(descriptor, script)
        argv = [name, f"/proc/self/fd/{descriptor}", *words]
    elif os.path.exists("/etc/rc"):
        argv = [name, "/etc/rc", *words]
    else:
        argv = [name, "-c", 'exec "$@"', name, *words]
    try:
        os.execve(shell, argv, variables)
    except OSError as error:
        fail(f"failed to execute: {shell}: {error.strerror}", level="enroot-switchroot: ")


def environment(rootfs: str, more: bytes) -> dict[bytes, bytes]:
    """Read variables by lines; what Enroot takes away from them is taken away."""
    image = Path(rootfs) / "etc/environment"
    text = (image.read_bytes() if image.is_file() else b"") + b"\n" + more
    found: dict[bytes, bytes] = {}
    for line in text.splitlines():
        match = re.fullmatch(rb"([A-Za-z_][A-Za-z0-9_]*)=(.*)", line.lstrip())
        if match and not match[1].startswith(b"ENROOT_"):
            value = re.sub(rb"^[\"'](.*)[\"']\s*$", rb"\1", match[2])
            found[match[1]] = value
    return found


def ask(conf: str, function: str) -> bytes:
    """Run a function of the configuration script."""
    if not conf:
        return b""
    script = f'. "$1"; if declare -F {function} >/dev/null; then {function}; fi'
    return subprocess.run(
        ["bash", "-c", script, "enroot", conf], stdout=subprocess.PIPE, check=True
    ).stdout


def mount_line(rootfs: str, line: str) -> None:
    """Do one mount of a table in the form of fstab."""
    source, target, kind, options = (
        re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), part) for part in line.split()
    )
    place = f"{rootfs}{target}"
    flags, data = 0, list[str]()
    for option in options.split(","):
        if option in FLAGS:
            flags |= FLAGS[option]
        elif option not in {"rw", "x-create=dir", "x-create=file"}:
            data.append(option)
    if "x-create=dir" in options:
        os.makedirs(place, 0o755, exist_ok=True)
    elif "x-create=file" in options:
        os.makedirs(os.path.dirname(place), 0o755, exist_ok=True)
        Path(place).touch()
    own = flags & ~PROPAGATION
    if own & BIND:
        mount(source, place, None, own & (BIND | REC), "", shown=target)
        kept = os.statvfs(place).f_flag & 0b1111  # what a user namespace may not take away
        mount("none", place, None, own & ~REC | kept | REMOUNT, "", shown=target)
    else:
        mount(source, place, kind, own & ~REC, ",".join(data), shown=target)
    if flags & PROPAGATION:
        mount("none", place, None, flags & (PROPAGATION | REC), "", shown=target)


def mount(
    source: str, target: str, kind: str | None, flags: int, data: str, *, shown: str = ""
) -> None:
    """Call mount(2)."""
    arguments = [os.fsencode(text) if text is not None else None for text in (source, target, kind)]
    if libc.mount(*arguments, ctypes.c_ulong(flags), data.encode()) != 0:
        words = os.strerror(ctypes.get_errno())
        fail(f"failed to mount: {source} at {shown or target}: {words}", level="enroot-mount: ")


def fetch(uri: str, target: Path) -> None:
    """Import an image from a registry, whose last layer must be the whole of it."""
    match = re.fullmatch(
        r"docker://(?:(?P<user>[^@#]+)@)?(?:(?P<registry>[^#]+)#)?(?P<image>[a-z0-9/._-]+)(?::(?P<tag>[\w._:-]+))?",
        uri,
    )
    if match is None:
        fail(f"Invalid image reference: {uri}")
    if target.exists():
        fail(f"File already exists: {target}")
    registry = match["registry"] or "registry-1.docker.io"
    scheme = "http" if os.environ.get("ENROOT_ALLOW_HTTP", "no") == "yes" else "https"
    headers = login(registry)
    base = f"{scheme}://{registry}/v2/{match['image']}"
    tell("[INFO] Fetching image manifest")
    manifest = json.loads(get(f"{base}/manifests/{match['tag'] or 'latest'}", headers))
    tell(f"[INFO] Downloading {len(manifest['layers']) + 1} missing layers...")
    config = json.loads(get(f"{base}/blobs/{manifest['config']['digest']}", headers))
    layer = gzip.decompress(get(f"{base}/blobs/{manifest['layers'][-1]['digest']}", headers))
    tell("[INFO] Creating squashfs filesystem...")
    target.write_bytes(with_scripts(layer, config.get("config") or {}))


def login(registry: str) -> dict[str, str]:
    """Look for credentials, by the registry's name without its port."""
    tell("[INFO] Querying registry for permission grant")
    file = CONFIG / ".credentials"
    host = registry.partition(":")[0]
    for line in file.read_text().splitlines() if file.is_file() else []:
        parts = line.split()
        if parts[:1] == ["machine"] and parts[1] == host:
            tell(f"[INFO] Authenticating with user: {parts[3]}")
            pair = base64.b64encode(f"{parts[3]}:{parts[5]}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
    tell("[INFO] Authenticating with user: <anonymous>")
    return {}


def get(url: str, headers: dict[str, str]) -> bytes:
    """Fetch something."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            data: bytes = answer.read()
            return data
    except urllib.error.HTTPError as error:
        if error.code == 401:  # no words of its own: what it was about to do is the last line
            raise SystemExit(1) from error
        fail(f"URL {url} returned error code: {error.code} {error.reason}")
    except urllib.error.URLError as error:
        tell(f"curl: (7) Failed to connect: {error.reason}")
        raise SystemExit(7) from error


def with_scripts(layer: bytes, config: dict[str, list[str]]) -> bytes:
    """Add what Enroot makes of an image's configuration: variables, and a first script."""
    start_words = shlex.join(config.get("Entrypoint") or [])
    usual = shlex.join(config.get("Cmd") or ["/bin/sh"])
    rc = f'if [ $# -gt 0 ]; then\n    exec {start_words} "$@"\nelse\n    exec {start_words} {usual}\nfi\n'
    variables = "".join(f"{text}\n" for text in config.get("Env") or [])
    buffer = io.BytesIO(layer)
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        for name, text in (("etc/rc", f"cd / || exit 1\n{rc}"), ("etc/environment", variables)):
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


if __name__ == "__main__":
    main(sys.argv[1:])
