"""The command line backend, in front of stand-in programs that say what real ones said."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from shipway_launcher.commandline import Programs
from shipway_launcher.errors import (
    BackendRefused,
    BackendUnreachable,
    BackendUnreadable,
    SubmissionDoubtful,
    TransportError,
)
from shipway_launcher.slurm.cli import CommandLineSlurm
from shipway_launcher.slurm.rows import SlurmJobId
from shipway_launcher.transport.local import LocalTransport
from shipway_launcher.transport.machine import LocalMachine


class StandIns:
    """Programs of Slurm that print what they are told to; each notes how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self, name: str, *, out: str = "", err: str = "", status: int = 0, sleep_s: float = 0
    ) -> None:
        """Write a program."""
        (self.folder / f"{name}.out").write_text(out)
        (self.folder / f"{name}.err").write_text(err)
        script = self.folder / name
        script.write_text(
            "#!/bin/sh\n"
            f'printf "%s\\n" "$@" > {self.folder}/{name}.arguments\n'
            f"env > {self.folder}/{name}.environment\n"
            f"sleep {sleep_s}\n"
            f"cat {self.folder}/{name}.out; cat {self.folder}/{name}.err >&2\nexit {status}\n"
        )
        script.chmod(0o755)

    def arguments(self, name: str) -> list[str]:
        """Return what the program was last called with."""
        return (self.folder / f"{name}.arguments").read_text().splitlines()

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment that the program was last called with."""
        lines = (self.folder / f"{name}.environment").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.fixture
def programs(tmp_path: Path) -> StandIns:
    return StandIns(tmp_path)


@pytest.fixture
def own() -> LocalTransport:
    return LocalTransport(getpass.getuser(), {"PATH": "/usr/bin:/bin", "SLURM_CONF": "/x.conf"})


def make_slurm(
    programs: StandIns,
    own: LocalTransport,
    *,
    query_timeout_s: float = 60,
    submit_timeout_s: float = 60,
) -> CommandLineSlurm:
    return CommandLineSlurm(
        Programs(programs.folder, "/usr/bin:/bin", LocalMachine().find_program),
        own,
        query_timeout_s=query_timeout_s,
        submit_timeout_s=submit_timeout_s,
    )


@pytest.fixture
def slurm(programs: StandIns, own: LocalTransport) -> CommandLineSlurm:
    return make_slurm(programs, own)


SCRIPT = Path("/lustre/job dir/job.sh")


@pytest.mark.parametrize(
    ("out", "err"),
    [
        ("4711\n", ""),
        ("4711;beta\n", ""),
        ("Submitted batch job 4711 on cluster beta\n", ""),
        ("4711\n", "sbatch: no partition specified, using default partition all_serial\n"),
        ("4711\n", 'sbatch: This job will be charged to "team". Balance: 497,218.77 hours\n'),
        ("4711\n", "sbatch: lua: Submitted job using job class 12345\n"),
    ],
)
async def test_a_submission(
    slurm: CommandLineSlurm, programs: StandIns, own: LocalTransport, out: str, err: str
) -> None:
    programs.add("sbatch", out=out, err=err)
    assert await slurm.submit(SCRIPT, user=own) == "4711"
    assert programs.arguments("sbatch") == ["--parsable", str(SCRIPT)]


@pytest.mark.parametrize(
    ("out", "err", "status"),
    [
        ("", "", 0),
        ("Welcome\n", "", 0),
        ("4711\n", "sbatch: error: Socket timed out on send/recv operation\n", 1),
        ("", "sbatch: error: Socket timed out on send/recv operation\n", 1),
        ("", "sbatch: error: Zero Bytes were transmitted or received\n", 1),
    ],
)
async def test_an_unclear_answer_is_doubtful(
    slurm: CommandLineSlurm,
    programs: StandIns,
    own: LocalTransport,
    out: str,
    err: str,
    status: int,
) -> None:
    programs.add("sbatch", out=out, err=err, status=status)
    with pytest.raises(SubmissionDoubtful):
        await slurm.submit(SCRIPT, user=own)


async def test_no_answer_in_time_is_doubtful(programs: StandIns, own: LocalTransport) -> None:
    slurm = make_slurm(programs, own, submit_timeout_s=2)
    programs.add("sbatch", out="4711\n", sleep_s=600)
    programs.add("scontrol", out="Slurmctld(primary) at vm is UP\n")
    with pytest.raises(SubmissionDoubtful, match="no answer within 2 s"):
        await slurm.submit(SCRIPT, user=own)


@pytest.mark.parametrize(
    ("err", "status"),
    [
        ("sbatch: error: Batch job submission failed: Invalid partition name specified\n", 1),
        ("sbatch: unrecognized option '--x'\nTry \"sbatch --help\"\n", 1),
        ("sbatch: error: Invalid directive found in batch script: simulation\n", 255),
    ],
)
async def test_a_refusal_is_told_in_sbatchs_words(
    slurm: CommandLineSlurm, programs: StandIns, own: LocalTransport, err: str, status: int
) -> None:
    programs.add("sbatch", err=err, status=status)
    with pytest.raises(BackendRefused) as refused:
        await slurm.submit(SCRIPT, user=own)
    assert refused.value.stderr == err.strip()
    assert refused.value.exit_status == status


async def test_a_slow_sbatch_is_not_waited_for_when_no_controller_listens(
    slurm: CommandLineSlurm, programs: StandIns, own: LocalTransport
) -> None:
    programs.add("sbatch", sleep_s=600)
    programs.add("scontrol", out="Slurmctld(primary) at vm is DOWN\n")
    with pytest.raises(BackendUnreachable, match="DOWN"):  # long before sbatch is given up
        await slurm.submit(SCRIPT, user=own)


async def test_a_backup_controller_is_a_controller(
    slurm: CommandLineSlurm, programs: StandIns, own: LocalTransport
) -> None:
    programs.add("sbatch", out="4711\n", sleep_s=2)
    programs.add("scontrol", out="Slurmctld(primary) at a is DOWN\nSlurmctld(backup) at b is UP\n")
    assert await slurm.submit(SCRIPT, user=own) == "4711"


async def test_nothing_of_our_own_environment_reaches_slurm(
    slurm: CommandLineSlurm,
    programs: StandIns,
    own: LocalTransport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SBATCH_EXCLUSIVE", "SQUEUE_FORMAT", "SLURM_CLUSTERS", "MY_SECRET"):
        monkeypatch.setenv(name, "1")
    programs.add("sbatch", out="1\n")
    programs.add("squeue")
    await slurm.submit(SCRIPT, user=own)
    assert set(programs.environment("sbatch")) <= {
        "PATH",
        "SLURM_CONF",
        "PWD",
        "SHLVL",
        "_",
        "OLDPWD",
    }
    assert await slurm.jobs() == []
    seen = programs.environment("squeue")
    assert seen["SLURM_TIME_FORMAT"] == "%s"
    assert "SQUEUE_FORMAT" not in seen


@pytest.mark.parametrize(
    ("out", "err", "status", "error"),
    [
        ("", "slurm_load_jobs error: Unable to contact slurm controller\n", 1, BackendUnreachable),
        ("", "squeue: error: Invalid job format specification: x\n", 1, BackendRefused),
        ("garbage\n", "", 0, BackendUnreadable),
        ("x" * 100, "", 137, BackendUnreachable),
    ],
)
async def test_a_question_that_is_not_answered_is_an_error_not_an_empty_list(
    slurm: CommandLineSlurm,
    programs: StandIns,
    out: str,
    err: str,
    status: int,
    error: type[Exception],
) -> None:
    if status == 137:
        (programs.folder / "squeue").write_text("#!/bin/sh\nkill -9 $$\n")
        (programs.folder / "squeue").chmod(0o755)
    else:
        programs.add("squeue", out=out, err=err, status=status)
    with pytest.raises(error):
        await slurm.jobs()


async def test_a_question_that_hangs_is_bounded(programs: StandIns, own: LocalTransport) -> None:
    slurm = make_slurm(programs, own, query_timeout_s=0.5)
    programs.add("squeue", sleep_s=600)
    with pytest.raises(BackendUnreachable, match=r"within 0\.5 s"):
        await slurm.jobs()


async def test_without_accounting_nothing_is_known_and_it_is_not_asked_all_the_time(
    slurm: CommandLineSlurm, programs: StandIns
) -> None:
    programs.add("sacct", err="Slurm accounting storage is disabled\n", status=1)
    assert await slurm.accounted([SlurmJobId("7")]) == {}
    programs.add("sacct", out="7|COMPLETED|0:0\n")
    assert await slurm.accounted([SlurmJobId("7")]) == {}


async def test_accounting_is_asked_for_all_jobs_at_once(
    slurm: CommandLineSlurm, programs: StandIns
) -> None:
    programs.add("sacct", out="7|COMPLETED|0:0|1|bob\n8|FAILED|3:0|1|bob\n")
    assert set(await slurm.accounted([SlurmJobId("8"), SlurmJobId("7")])) == {"7", "8"}
    assert programs.arguments("sacct")[-1] == "7,8"


@pytest.mark.parametrize(
    ("err", "status", "is_error"),
    [
        ("", 0, False),
        ("scancel: error: Kill job error on job id 7: Invalid job id specified\n", 1, False),
        ("scancel: error: Kill job error on job id 7: Job/step already completing\n", 1, False),
        ("scancel: error: Kill job error on job id 7: Access/permission denied\n", 1, True),
        ("Unable to contact slurm controller (connect failure)\n", 1, True),
    ],
)
async def test_cancelling_what_is_over_is_no_error(
    slurm: CommandLineSlurm,
    programs: StandIns,
    own: LocalTransport,
    err: str,
    status: int,
    is_error: bool,
) -> None:
    programs.add("scancel", err=err, status=status)
    if is_error:
        with pytest.raises((BackendRefused, BackendUnreachable)):
            await slurm.cancel([SlurmJobId("7")], user=own)
    else:
        await slurm.cancel([SlurmJobId("7")], user=own, signal="KILL")
        assert programs.arguments("scancel") == ["--signal=KILL", "7"]


async def test_a_missing_program_is_named(slurm: CommandLineSlurm) -> None:
    with pytest.raises(TransportError, match="cannot run squeue: it is not in"):
        await slurm.jobs()


async def test_the_release_and_its_mpi_plugins(slurm: CommandLineSlurm, programs: StandIns) -> None:
    programs.add("sbatch", out="slurm-wlm 22.05.8\n")
    programs.add("srun", out="MPI plugin types are...\n\tpmix\n\tnone\n\tpmi2\nspecific: pmix_v4\n")
    facts = await slurm.facts()
    assert str(facts.version) == "22.05.8"
    assert facts.mpi_plugins == {"pmix", "none", "pmi2"}
