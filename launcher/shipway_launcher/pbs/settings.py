"""Settings for a PBS complex."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from shipway_common.settings import Settings
from shipway_launcher.errors import WrongRequest
from shipway_launcher.pbs.useroptions import parse_user_options


class PbsSettings(Settings):
    """How PBS's commands are called, and what its jobs get."""

    conf_file: Path | None = Field(
        None, description="PBS's configuration file; without it, PBS takes /etc/pbs.conf."
    )
    bin_dir: Path | None = Field(
        None, description="Folder of PBS's commands; by default they are looked for in path."
    )
    query_timeout_s: Annotated[float, Field(gt=0)] = Field(
        20.0, description="Seconds for which an answer of qstat, qdel, pbsnodes is waited for."
    )
    submit_timeout_s: Annotated[float, Field(gt=0)] = Field(
        60.0, description="Seconds for which an answer of qsub is waited for."
    )
    pass_project: bool = Field(
        True,
        description="Hand the master's -P to qsub; switch off where projects must be known.",
    )
    options: list[str] = Field(
        default_factory=list[str],
        description="Options of qsub for all jobs, such as `-l walltime=24:00:00`. Users' own win"
        " over them; what users cannot give is refused here, too.",
    )

    @field_validator("options")
    @classmethod
    def _are_options(cls, value: list[str]) -> list[str]:
        try:
            parse_user_options(value)
        except WrongRequest as error:
            raise ValueError(str(error).removeprefix("unable to launch job: ")) from error
        return value
