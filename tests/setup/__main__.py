"""Get this machine ready for the tests: `python -m tests.setup`. A second run has nothing to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

from tests.lab import apptainer as apptainer_lab
from tests.lab import det as det_lab
from tests.lab import s3 as s3_lab
from tests.setup import apptainer_tree, det_client, packages, s3_server, slurm_trees


def main() -> None:
    """Do each step that is not done yet; say what stays missing, which the tests then skip."""
    started = time.monotonic()
    set_up_packages()
    set_up_apptainer()
    set_up_slurms()
    set_up_client()
    set_up_s3()
    say(f"done in {time.monotonic() - started:.0f} s")


def set_up_packages() -> None:
    """Install the Debian packages, or name those that are missing."""
    missing = packages.missing_packages()
    if not missing:
        return
    if not shutil.which("apt-get"):
        say(f"no apt-get here; Debian would need these packages: {' '.join(missing)}")
    elif os.geteuid() != 0:
        say(f"not root, so these Debian packages stay missing: {' '.join(missing)}")
    else:
        say(f"installing {' '.join(missing)}")
        if unknown := packages.install(missing):
            say(f"this system has no package {' '.join(unknown)}")


def set_up_apptainer() -> None:
    """Lay an apptainer into the cache folder where the machine has none."""
    cache = apptainer_lab.cache_folder()
    if not apptainer_tree.is_needed(cache):
        return
    if os.geteuid() != 0 or not shutil.which("debootstrap", path="/usr/sbin:/usr/bin"):
        say("no apptainer on PATH; root with debootstrap could make one")
        return
    say(f"making an apptainer in {cache} (about a minute)")
    try:
        apptainer_tree.make(cache)
    except subprocess.CalledProcessError as error:
        say(f"that failed, so tests with apptainer cannot run: {error}")


def set_up_slurms() -> None:
    """Lay newer releases of Slurm into the cache folder."""
    suites = slurm_trees.needed()
    if not suites:
        return
    if os.geteuid() != 0 or not shutil.which("debootstrap", path="/usr/sbin:/usr/bin"):
        say("newer releases of Slurm stay missing; root with debootstrap could make them")
        return
    say(f"making the Slurm of Debian {' and '.join(suites)} (one to two minutes)")
    for suite, error in slurm_trees.make(suites).items():
        say(f"that of {suite} failed, so tests with it cannot run: {error}")


def set_up_client() -> None:
    """Install the stock client."""
    say(f"the stock client: determined {det_lab.VERSION}")
    try:
        det_client.make(det_lab.program(), det_lab.VERSION)
    except subprocess.CalledProcessError as error:
        say(f"that failed, so tests with it cannot run: {error}")


def set_up_s3() -> None:
    """Install a server that speaks S3."""
    say(f"a server that speaks S3: {s3_lab.PACKAGES[0]}")
    try:
        s3_server.make(s3_lab.program(), s3_lab.PACKAGES)
    except subprocess.CalledProcessError as error:
        say(f"that failed, so tests with it cannot run: {error}")


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"test set-up: {text}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"test set-up: {error}")
