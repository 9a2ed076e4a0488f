"""The words of docs/launcher.md about curl, followed to the letter."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.lab.processes import run
from tests.lab.require import require
from tests.lab.shipway import Launcher, program

PAGE = Path(__file__).parents[3] / "docs/launcher.md"


def test_a_person_with_curl_gets_along(launcher: Launcher, tmp_path: Path, user: str) -> None:
    require("the docs", [name for name in ("bash", "curl") if shutil.which(name) is None])
    section = PAGE.read_text().split("### By hand, with curl\n")[1].split("\n### ")[0]
    manifest, commands = re.findall(r"```(?:json|console)\n(.*?)```", section, re.DOTALL)
    (tmp_path / "hello.json").write_text(manifest)
    mine = tmp_path / "shipway-launcher"  # which finds its settings in /etc on a user's machine
    mine.write_text(f'#!/bin/sh\nexec {program(mine.name)} "$@" --config {launcher.config}\n')
    mine.chmod(0o755)
    lines = [line.removeprefix("$ ") for line in commands.splitlines()]
    script = "\n".join(["set -e -o pipefail", 'PATH="$PWD:$PATH"', *lines])
    assert script.count("http://127.0.0.1:8181") == 1
    script = script.replace("http://127.0.0.1:8181", launcher.url)
    done = run(["bash", "-c", script], folder=tmp_path, environment={"USER": user}, limit_s=100)
    assert "hello from " in done.stdout
    assert "dispatchId: hello-1\n" in done.stdout, "in YAML"
    assert (tmp_path / "launcher.header").stat().st_mode & 0o777 == 0o600
    assert launcher.api().send("GET", f"/monitoring/{user}/environments/hello-1/status")[0] == 404
