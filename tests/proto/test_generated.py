"""The committed code is what the .proto files give, and the check notices when it is not."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import shipway_proto
from tests.lab.require import require

PACKAGE_DIR = Path(shipway_proto.__file__).parent


@pytest.fixture(autouse=True)
def _needs_generator() -> None:
    missing = [] if importlib.util.find_spec("grpc_tools") else ["grpcio-tools"]
    # A wheel comes without the generator; what it holds was checked where it was built.
    missing += [] if (PACKAGE_DIR / "_generate.py").exists() else ["a source tree"]
    require("the generator", missing, hint="install the gen group of pyproject.toml")


def _run(parent: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The package of *parent* is the one that is imported: the folder of -m comes first in sys.path.
    command = [sys.executable, "-m", "shipway_proto._generate", *arguments]
    return subprocess.run(
        command, cwd=parent, capture_output=True, text=True, check=False, timeout=100
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package to break; the folder that holds it."""
    shutil.copytree(
        PACKAGE_DIR, tmp_path / "shipway_proto", ignore=shutil.ignore_patterns("__pycache__")
    )
    return tmp_path


def test_the_committed_code_is_fresh() -> None:
    result = _run(PACKAGE_DIR.parent, "--check")
    assert (result.returncode, result.stderr) == (0, ""), result.stdout


def test_each_missing_stale_and_leftover_file_is_named(copy: Path) -> None:
    folder = copy / "shipway_proto/determined/log/v1"
    (folder / "log_pb2.py").unlink()
    (folder / "log_pb2.pyi").write_text("# edited\n")
    (folder / "gone_pb2.py").touch()
    result = _run(copy, "--check")
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        "determined/log/v1/gone_pb2.py: made from no .proto file",
        "determined/log/v1/log_pb2.py: missing",
        "determined/log/v1/log_pb2.pyi: stale",
    ]


def test_a_changed_proto_file_makes_its_code_stale_until_it_is_made_again(copy: Path) -> None:
    proto = copy / "shipway_proto/determined/log/v1/log.proto"
    proto.write_text(proto.read_text().replace("string message = 2;", "string text = 2;"))
    stale = [f"determined/log/v1/log_pb2.{suffix}: stale" for suffix in ("py", "pyi")]
    check = _run(copy, "--check")
    assert (check.returncode, check.stdout.splitlines()) == (1, stale)
    assert _run(copy).returncode == 0
    assert _run(copy, "--check").returncode == 0
