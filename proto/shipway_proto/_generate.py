"""Make the Python code of every .proto file: ``python -m shipway_proto._generate [--check]``.

Each .proto file gets its code beside it, typed stubs included, and the file with the service gets the
gRPC code too. protoc sees this package under the virtual path ``shipway_proto``, so generated imports
read ``shipway_proto.determined…`` and nothing is rewritten afterwards.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE_DIR = Path(__file__).resolve().parent
SERVICE_FILE = "determined/api/v1/api.proto"


def _import_root(package: str) -> Path:
    """Find the folder that protoc needs to see the .proto files which *package* carries."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed; install the gen group of pyproject.toml")
    return Path(spec.submodule_search_locations[0]).parents[package.count(".")]


def _run_protoc(out_dir: Path) -> None:
    # protoc looks plugins up in PATH, where another environment's mypy-protobuf may come first.
    bin_dir = Path(sys.executable).parent
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc"),
        f"-I{PACKAGE_DIR.name}={PACKAGE_DIR}",
        f"-I{_import_root('google.api')}",
        f"--plugin=protoc-gen-mypy={bin_dir / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={bin_dir / 'protoc-gen-mypy_grpc'}",
    ]
    names = sorted(p.relative_to(PACKAGE_DIR).as_posix() for p in PACKAGE_DIR.rglob("*.proto"))
    sources = [f"{PACKAGE_DIR.name}/{name}" for name in names]
    messages = [f"--python_out={out_dir}", f"--mypy_out=quiet:{out_dir}"]
    # One class for both kinds of channel costs mypy all memory with 260 RPCs; ours are all of grpc.aio.
    flags = "quiet,only_async,generate_concrete_servicer_stubs"
    service = [f"--grpc_python_out={out_dir}", f"--mypy_grpc_out={flags}:{out_dir}"]
    subprocess.run([*command, *messages, *sources], check=True)
    subprocess.run([*command, *service, f"{PACKAGE_DIR.name}/{SERVICE_FILE}"], check=True)


def _generated_files(package_dir: Path) -> dict[str, bytes]:
    paths = [p for p in package_dir.rglob("*_pb2*.py*") if p.suffix in {".py", ".pyi"}]
    return {p.relative_to(package_dir).as_posix(): p.read_bytes() for p in paths}


def _describe_differences(committed: dict[str, bytes], fresh: dict[str, bytes]) -> list[str]:
    missing = [f"{name}: missing" for name in fresh.keys() - committed.keys()]
    leftover = [f"{name}: made from no .proto file" for name in committed.keys() - fresh.keys()]
    stale = [f"{n}: stale" for n in fresh.keys() & committed.keys() if fresh[n] != committed[n]]
    return sorted(missing + leftover + stale)


def _write(committed: dict[str, bytes], fresh: dict[str, bytes]) -> None:
    for name in committed.keys() - fresh.keys():
        (PACKAGE_DIR / name).unlink()
    for name, content in fresh.items():
        (PACKAGE_DIR / name).write_bytes(content)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m shipway_proto._generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if not fresh")
    check: bool = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        _run_protoc(Path(folder))
        fresh = _generated_files(Path(folder) / PACKAGE_DIR.name)
    committed = _generated_files(PACKAGE_DIR)
    differences = _describe_differences(committed, fresh)
    if not check:
        _write(committed, fresh)
    print("\n".join(differences) or f"{len(fresh)} files, all fresh")
    return 1 if check and differences else 0


if __name__ == "__main__":
    sys.exit(main())
