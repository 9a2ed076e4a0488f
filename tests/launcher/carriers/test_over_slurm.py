"""Each carrier, from a manifest to a task in a real container on two nodes of a real Slurm."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.apptainer import Apptainer
from tests.lab.enroot import Enroot
from tests.lab.folders import new_folder
from tests.lab.podman import Podman
from tests.lab.shipway import Launcher
from tests.lab.slurm import Slurm
from tests.launcher.go_master import GoMaster
from tests.launcher.manifests import header, make_archive, make_manifest

VALUE = 'quote" and $HOME `id`\nline = a,b'
ENTRY = """#!/bin/sh
echo "$SLURM_PROCID of $SLURM_NPROCS: $DET_SLOT_IDS"
if [ "$VALUE" = "$(printf 'quote" and $HOME `id`\\nline = a,b')" ]; then echo the value is whole; fi
if [ "$#-$1-$2" = '2-a "b"-$c' ]; then echo the arguments are whole; fi
pwd
stat -c '%a %n' /run/determined/secret /run/determined/entry.sh
cat /data/file
if touch /data/other 2>/dev/null; then echo it can be written; fi
echo mine >/run/determined/own.$SLURM_PROCID
ls /run/determined | grep -c own
touch /anywhere && echo the root can be written
"""
FILES = (
    header("run", tarfile.DIRTYPE),
    header("run/determined", tarfile.DIRTYPE),
    ("run/determined/entry.sh", ENTRY.encode(), 0o755),
    ("run/determined/secret", b"s", 0o600),
)
SAID = [
    "the value is whole",
    "the arguments are whole",
    "/",
    "600 /run/determined/secret",
    "755 /run/determined/entry.sh",
    "content",
    "1",
    "the root can be written",
]


@pytest.fixture(scope="module")
def places(enroot: Enroot, apptainer: Apptainer) -> Iterator[dict[str, str]]:
    """What Enroot finds in its environment, with a container that its user made."""
    folder = new_folder("made")
    path = f"{enroot.environment['PATH'].partition(':')[0]}:{apptainer.environment['PATH']}"
    made = {"PATH": path, "ENROOT_DATA_PATH": str(folder / "data")}
    subprocess.run(
        ["enroot", "create", "--name", "org+img+1", "--", enroot.image],
        env={**os.environ, **made, "ENROOT_RUNTIME_PATH": str(folder / "run")},
        check=True,
    )
    yield made
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def launcher(slurm: Slurm, podman: Podman, places: dict[str, str]) -> Iterator[Launcher]:
    """A launcher of a site on whose nodes all runtimes are."""
    folder = new_folder("launcher")
    daemon = Launcher(
        folder,
        master_url="http://127.0.0.1:9",
        user=getpass.getuser(),
        environment=slurm.environment,
        config={
            "path": places["PATH"],
            "slurm": {"environment": podman.environment},
            "watch": {"interval_s": 0.5, "missing_after_s": 2, "kill_after_s": 3},
        },
    )
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        slurm.clear()
        shutil.rmtree(folder)


@pytest.mark.parametrize("carrier", ["Singularity", "Podman", "Enroot"])
def test_a_task_finds_all_that_its_manifest_gives_it(
    carrier: str,
    master: GoMaster,
    new_id: Callable[[], str],
    tmp_path: Path,
    apptainer: Apptainer,
    podman: Podman,
    places: dict[str, str],
) -> None:
    images = {"Singularity": apptainer.image, "Podman": podman.image, "Enroot": "org/img:1"}
    variables = {"ENROOT_DATA_PATH": places["ENROOT_DATA_PATH"]} if carrier == "Enroot" else {}
    (tmp_path / "file").write_text("content\n")
    job = master.launch(
        make_manifest(
            ["/run/determined/entry.sh", 'a "b"', "$c"],
            carrier=f"{carrier}OverSlurm",
            image=images[carrier],
            environment={"VALUE": VALUE, "DET_SLOT_TYPE": "cuda", **variables},
            configuration={"workingDir": "/", "networkMode": "host"},
            archives=[make_archive(*FILES)],
            data=[{"name": "d", "source": str(tmp_path), "target": "/data", "readOnly": True}],
            resources={"instances": {"nodes": 2}, "gpus": {"per-node": 2}},
        ),
        new_id(),
    )
    assert master.wait(job, limit_s=60) == "COMPLETED", job.task_log
    lines = master.log(job, "output.log").decode().splitlines()
    assert sorted(line for line in lines if " of 2: " in line) == ["0 of 2: [0,1]", "1 of 2: [0,1]"]
    for said in SAID:
        assert lines.count(said) == 2, (said, lines, master.log(job, "error.log"))
    assert len(lines) == 2 * (1 + len(SAID))
