"""One job of two ranks by each carrier, on a real Slurm with the real container programs."""

from __future__ import annotations

import getpass
import os
import shutil
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

VALUES = {
    "A": 'b=c "q"',
    "NL": "l1\nl2",
    "EMPTY": "",
    "SP": "  two  blanks  ",
    "DQ": '{"k": "v\\"w"}',
    "SQ": "it's",
    "DOLLAR": "$$ ${HOME} `id` $(id)",
    "BS": "\\n\\t\\\\",
    "UNI": "día😀",
    "STAR": "* ? ~ !",
}

TASK = r"""#!/bin/sh
hex() { printf %s "$1" | od -An -v -tx1 | tr -d ' \n'; }
for name in A NL EMPTY SP DQ SQ DOLLAR BS UNI STAR; do
  eval "value=\$$name"; line="$(hex "$value") is $name"; echo "$line"
done
line="$(printf %s "$LONG" | tr -d x | wc -c) but x in ${#LONG}"; echo "$line"
for word in "$@"; do line="$(hex "$word") is a word"; echo "$line"; done
echo "$SLURM_PROCID" >>/tmp/seen; echo "$SLURM_PROCID" >>/run/determined/seen
touch "/ready/$SLURM_PROCID"
while ! [ -e /ready/0 ] || ! [ -e /ready/1 ]; do sleep 0.1; done
line="rank $SLURM_PROCID sees $(cat /tmp/seen) and $(cat /run/determined/seen)"; echo "$line"
echo "modes $(stat -c %a /run/determined/keep /run/determined/keep/secret | tr '\n' ' ')"
echo "owner is me: $([ -O /run/determined/keep/secret ] && echo yes)"
echo "link $(readlink /run/determined/keep/link)"
echo "data $(cat '/da ta/file') $(touch '/da ta/new' 2>/dev/null || echo read-only)"
echo "device $([ -c /opt/special ] && echo there)"
echo "slots $DET_SLOT_IDS of ${CUDA_VISIBLE_DEVICES} folder $(pwd)"
"""


@pytest.fixture(scope="module")
def launcher(
    slurm: Slurm, apptainer: Apptainer, podman: Podman, enroot: Enroot
) -> Iterator[Launcher]:
    """A launcher whose jobs find all container programs."""
    folder = new_folder("launcher")
    images = folder / "images/org"
    images.mkdir(parents=True)
    (images / "lab:1").symlink_to(apptainer.image)
    programs = [Path(apptainer.program).parent, enroot.environment["PATH"].partition(":")[0]]
    daemon = Launcher(
        folder,
        master_url="http://127.0.0.1:9",
        user=getpass.getuser(),
        environment=slurm.environment,
        config={
            "path": ":".join([*map(str, programs), "${PATH}"]),
            "singularity_image_root": str(images.parent),
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


@pytest.mark.parametrize("name", ["Singularity", "Podman", "Enroot"])
def test_two_ranks_find_all_that_they_were_promised(
    name: str,
    master: GoMaster,
    new_id: Callable[[], str],
    podman: Podman,
    enroot: Enroot,
    tmp_path: Path,
) -> None:
    image = {"Singularity": "org/lab:1", "Podman": podman.image, "Enroot": enroot.image}[name]
    source = tmp_path / "sou,rce: \"'x"
    source.mkdir()
    (source / "file").write_text("here")
    ready = tmp_path / "ready"
    ready.mkdir(mode=0o777)
    words = ["/run/determined/task.sh", "a b", "", "$(id)", "\n", "día", "*"]
    manifest = make_manifest(
        words,
        carrier=f"{name}OverSlurm",
        image=image,
        environment={
            **VALUES,
            "LONG": "x" * 70000,
            "DET_SLOT_TYPE": "cuda",
            "DET_LOG_WAIT_TIME": "0",
        },
        configuration={"networkMode": "host", "devices": "/dev/null:/opt/special:rw"},
        data=[
            {"name": "ds0", "source": str(source), "target": "/da ta", "readOnly": True},
            {"name": "ds1", "source": str(ready), "target": "/ready", "readOnly": False},
        ],
        archives=[
            make_archive(
                header("///run/determined", b"5", mode=0o700),
                ("/run/determined/task.sh", TASK.encode(), 0o744),
                header("/run/determined/keep/", b"5", mode=0o700),
                ("/run/determined/keep/secret", b"x", 0o600),
                header("/run/determined/keep/link", b"2", target="///determined/keep"),
            )
        ],
        resources={"instances": {"nodes": 2}, "gpus": {"per-node": 2}},
    )
    job = master.launch(manifest, new_id())
    state = master.wait(job, limit_s=90)
    errors = master.log(job, "error.log").decode()
    assert state == "COMPLETED", errors
    lines = master.log(job, "output.log").decode().splitlines()
    for variable, value in VALUES.items():
        assert lines.count(f"{value.encode().hex()} is {variable}") == 2, variable
    for word in words[1:]:
        assert lines.count(f"{word.encode().hex()} is a word") == 2, word
    assert {line for line in lines if line.startswith("rank")} == {
        "rank 0 sees 0 and 0",
        "rank 1 sees 1 and 1",
    }
    for line in (
        "0 but x in 70000",
        "modes 700 600 ",
        "owner is me: yes",
        "link ///determined/keep",
        "data here read-only",
        "device there",
        "slots [0,1] of 0,1 folder /var/tmp",
    ):
        assert lines.count(line) == 2, (line, lines[-14:], errors)
    assert os.listdir(source) == ["file"]
