"""What a site adds to each batch script."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from shipway_common.settings import Settings
from shipway_launcher.batch.sitelines import check_site_lines
from shipway_launcher.batch.useroptions import parse_user_options
from shipway_launcher.errors import WrongRequest


class BatchSettings(Settings):
    """The site's own part of each batch script."""

    options: list[str] = Field(
        default_factory=list[str],
        description="Options of sbatch for all jobs, such as `--mem=4G`. Users' own win over them;"
        " what users cannot give is refused here, too.",
    )
    signal: Literal["TERM", "USR1", "USR2"] = Field(
        "TERM",
        description="Which signal Slurm sends a job before its time limit. `USR2` reaches the task"
        " alone, and no master hears of it.",
    )
    signal_lead_s: int | None = Field(
        None,
        gt=0,
        le=65535,
        description="Seconds before the time limit at which it does, for jobs without a"
        " `--signal` of their own. Unset: not at all.",
    )
    before: str = Field(
        "",
        description="Lines of bash that run on a job's first node before its tasks start; a"
        " template of Jinja2, see `Lines of the site`.",
    )
    after: str = Field(
        "", description="Lines of bash that run there after the tasks have ended; as before."
    )

    @property
    def signal_option(self) -> str | None:
        """What sbatch's --signal is to be where nobody else says; None: nothing."""
        return None if self.signal_lead_s is None else f"{self.signal}@{self.signal_lead_s}"

    @field_validator("options")
    @classmethod
    def _are_options(cls, value: list[str]) -> list[str]:
        try:
            parse_user_options(value)
        except WrongRequest as error:
            raise ValueError(str(error).removeprefix("unable to launch job: ")) from error
        return value

    @field_validator("before", "after")
    @classmethod
    def _is_template(cls, value: str) -> str:
        check_site_lines(value)
        return value
