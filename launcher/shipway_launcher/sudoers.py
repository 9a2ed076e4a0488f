"""The rule by which sudo lets the launcher act for the users of jobs, and do nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from shipway_launcher.carriers.table import Manager
from shipway_launcher.dispatches.files import SCRIPT, jobs_root
from shipway_launcher.errors import SetupError

FILE = Path("/etc/sudoers.d/shipway")

_JOB_COMMANDS = {
    Manager.SLURM: (
        ("sbatch", "--parsable {script}"),
        ("scancel", "*"),
        ("squeue", "--noheader --all --states\\=all -O *"),
        ("squeue", "--all --states\\=all --json"),
    ),
    Manager.PBS: (
        ("qsub", "{script}"),
        ("qdel", "*"),
        ("qsig", "-s SIGKILL *"),
        ("qstat", "-f -F json"),
    ),
}
JOB_PROGRAMS = {
    manager: tuple(dict.fromkeys(name for name, _ in commands))
    for manager, commands in _JOB_COMMANDS.items()
}
"""What the launcher runs as the users of jobs."""

_FILE_VERBS = ("install", "size", "status", "read", "erase", "remove")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")


def render_sudoers(
    launcher: str,
    authorized: str,
    *,
    root: Path,
    helper: Sequence[str],
    manager: Manager,
    programs: Mapping[str, str],
) -> str:
    """Write the rule for /etc/sudoers.d.

    Args:
        launcher: Who runs the launcher.
        authorized: Whom it may act for: names with commas between, or ALL.
        root: The job_storage_root.
        helper: The program that moves files, its words; the first is a full path.
        manager: The workload manager.
        programs: Full path of each of `JOB_PROGRAMS`.

    Raises:
        SetupError: Something cannot be said in such a rule; names the setting.
    """
    names = [name.strip() for name in authorized.split(",") if name.strip()]
    for key, name in [("user_name", launcher), *(("sudo_authorized", name) for name in names)]:
        if not _USER.fullmatch(name):
            raise SetupError(f"{key}: {name!r} is no user name that sudo could be told")
    for word in helper:
        if re.search(r"[\s\"'\\]", word):
            raise SetupError(f"sudo_helper: {word!r} holds what no rule of sudo can")
    jobs = _escape(str(jobs_root(root)))
    words = " ".join(_escape(word) for word in helper)
    job_lines = ", \\\n    ".join(
        f"{_escape(programs[name])} {arguments.format(script=f'{jobs}/*/{SCRIPT}')}"
        for name, arguments in _JOB_COMMANDS[manager]
    )
    file_lines = ", \\\n    ".join(f"{words} {verb} {jobs}/*" for verb in _FILE_VERBS)
    return f"""\
# What shipway-launcher needs to run jobs as their users; printed by `shipway-launcher sudoers`.
# To install: shipway-launcher sudoers >{FILE}; chmod 440 {FILE}; visudo -c

# Whom it may act for; never root, by name or by number.
Runas_Alias SHIPWAY_USERS = {", ".join(names or ["ALL"])}, !root, !#0

# Submit a script of its own making, cancel, and list the jobs that the user sees.
Cmnd_Alias SHIPWAY_JOBS = \\
    {job_lines}

# Write, read and remove the files of jobs, below this folder.
Cmnd_Alias SHIPWAY_FILES = \\
    {file_lines}

# SETENV: the launcher makes the environment; nothing of its own reaches the users' programs.
Defaults:{launcher} !requiretty
{launcher} ALL = (SHIPWAY_USERS) NOPASSWD:SETENV: SHIPWAY_JOBS, SHIPWAY_FILES
"""


def _escape(text: str) -> str:
    """Write a path or a word so that sudo reads it as itself."""
    return re.sub(r"([,:=\\ *?\[\]!#()\"])", r"\\\1", text)
