"""The launcher's subcommands in the tests' own process; one for each takes longer than what it does."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner

from shipway_launcher.__main__ import main


def call(
    *words: str | Path,
    environment: Mapping[str, str],
    folder: Path | None = None,
    text: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `shipway-launcher WORDS` with this environment and no other variable, in *folder*.

    Args:
        words: The command line.
        environment: All variables.
        folder: The working folder; ours when left out.
        text: What is read from standard input.
    """
    argv = [str(word) for word in words]
    variables: dict[str, str | None] = {**dict.fromkeys(os.environ), **environment}
    with contextlib.chdir(folder or Path.cwd()):
        done = CliRunner().invoke(main, argv, env=variables, input=text, catch_exceptions=False)
    return subprocess.CompletedProcess(argv, done.exit_code, done.stdout, done.stderr)
