"""From a manifest to the batch script of a PBS job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shipway_launcher.batch.choice import job_start_folder, plain_name
from shipway_launcher.dispatches import files
from shipway_launcher.manifest import Manifest
from shipway_launcher.pbs.parse import DISPATCH_VARIABLE
from shipway_launcher.pbs.script import Directive, PbsJob, render_pbs_script
from shipway_launcher.pbs.select import select_chunks
from shipway_launcher.pbs.settings import PbsSettings
from shipway_launcher.pbs.useroptions import UserOptions, parse_user_options

LONGEST_NAME = 230
"""What PBS allows a job's name to have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A script, and what its user should know."""

    script: str
    notes: Sequence[str]


def choose_job_name(payload: str, dispatch_id: str) -> str:
    """Name the job; of a long payload's name as much as PBS takes."""
    room = LONGEST_NAME - len(f"det--{dispatch_id}")
    return f"det-{files.safe_name(payload)[: max(room, 0)]}-{dispatch_id}"[:LONGEST_NAME]


def write_pbs_script(
    manifest: Manifest,
    settings: PbsSettings,
    *,
    job_name: str,
    dispatch_id: str,
    owner: str,
    folder: str,
    agent_command: Sequence[str],
    needs_equal_gpus: bool,
    before: str,
    after: str,
) -> Written:
    """Put together what the user asked for and what the launcher needs.

    Raises:
        WrongRequest: An option is not allowed, or the resources make no sense.
    """
    of_site = parse_user_options(settings.options)
    of_user = parse_user_options(manifest.pbs_arguments)
    selection = select_chunks(manifest.resources, {**of_site.chunk, **of_user.chunk})
    queue = plain_name("queue", manifest.configuration.get("queue", ""))
    own: list[Directive] = [
        ("N", job_name),
        *([("q", queue)] if queue else []),
        ("l", f"select={selection.select}"),
        *([("l", "place=scatter")] if selection.scatters else []),
        ("S", "/bin/bash"),
        ("o", f"{folder}/{files.OUTPUT_LOG}"),
        ("e", f"{folder}/{files.ERROR_LOG}"),
        ("k", "oed"),  # written where they belong, while the job runs
        ("r", "n"),
        ("W", "umask=0022"),
        ("V", None),
        ("v", f"{DISPATCH_VARIABLE}={dispatch_id}"),
    ]
    notes = [*selection.notes, *of_user.notes]
    script = render_pbs_script(
        PbsJob(
            dispatch_id=dispatch_id,
            owner=owner,
            folder=folder,
            work_dir=job_start_folder(manifest.configuration.get("workingDir", "")),
            site_options=_directives(of_site, but=of_user),
            user_options=_directives(of_user, drops="" if settings.pass_project else "P"),
            own_options=own,
            notes=notes,
            agent_command=agent_command,
            needs_equal_gpus=needs_equal_gpus,
            before=before,
            after=after,
        )
    )
    return Written(script=script, notes=notes)


def _directives(
    options: UserOptions, *, but: UserOptions | None = None, drops: str = ""
) -> list[Directive]:
    """List options and resources, without those that *but* has as well."""
    but = but or UserOptions()
    return [
        *(
            (letter, value)
            for letter, value in options.options.items()
            if letter not in drops and letter not in but.options
        ),
        *(
            ("l", f"{name}={value}")
            for name, value in options.resources.items()
            if name not in but.resources
        ),
    ]
