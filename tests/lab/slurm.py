"""A private Slurm: munged, slurmctld and slurmds with fake GPUs, all in one folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab.folders import remove_folder
from tests.lab.processes import (
    LabError,
    end,
    free_ports,
    is_alive,
    pid_in,
    run,
    tails,
    wait_until,
)

PROGRAMS = ("munged", "slurmctld", "slurmd", "sinfo", "sbatch", "srun", "squeue", "scancel")

# Debian keeps the daemons out of an ordinary user's PATH.
_SEARCH = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin"

_CONFIG = """\
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
GresTypes=gpu
# The node lines below win over what the machine really has.
SlurmdParameters=config_overrides
# Raising a soft limit needs a capability that not every machine gives to root.
PropagateResourceLimits=NONE
JobAcctGatherType=jobacct_gather/{gatherer}
SwitchType=switch/none
{accounting_lines}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=3
{node_lines}
PartitionName=gpu    Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=REQUEUE GraceTime={grace_s}
PartitionName=cancel Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=CANCEL GraceTime={grace_s}
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=100 PreemptMode=OFF
{more_lines}
"""


def missing_programs() -> list[str]:
    """Return the programs that a cluster needs and this machine lacks."""
    return [name for name in PROGRAMS if not shutil.which(name, path=_SEARCH)]


class Slurm:
    """One cluster: nodes n1, n2, … in the partitions `gpu` (default), `cancel` and `urgent`.

    A job in `urgent` preempts those in the others: after *grace_s* seconds they are requeued
    (`gpu`) or cancelled (`cancel`). Several clusters can run on one machine at once.
    """

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 4,
        gpus: int = 4,
        cpus: int = 8,
        memory_mib: int = 16000,
        grace_s: int = 40,
        more_config: Sequence[str] = (),
        bin_dir: Path | None = None,
        gatherer: str = "none",
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            folder: Where everything of it is; see `new_folder`.
            nodes: How many.
            gpus: Of each node.
            cpus: Of each node.
            memory_mib: Of each node.
            grace_s: How long preempted jobs may go on, in seconds.
            more_config: Lines for slurm.conf.
            bin_dir: Where the programs of another release are; the machine's own by default.
            gatherer: What finds out how much memory a job uses: `none`, `linux`.
        """
        self.folder = folder
        self._search = f"{bin_dir}:{_SEARCH}" if bin_dir else _SEARCH
        self.nodes = tuple(f"n{number}" for number in range(1, nodes + 1))
        self.gpus, self.cpus, self.memory_mib, self.grace_s = gpus, cpus, memory_mib, grace_s
        self.config = folder / "slurm.conf"
        self._more_config, self._gatherer = tuple(more_config), gatherer

    @property
    def environment(self) -> dict[str, str]:
        """What a client of this cluster needs in its environment."""
        return {"SLURM_CONF": str(self.config)}

    def __enter__(self) -> Slurm:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and wait for idle nodes.

        Raises:
            LabError: A part did not come up; what was started is ended again.
        """
        self._write_files()
        try:
            self._start_munged()
            self.start_accounting()
            self.start_controller(is_clean=True)
            for node in self.nodes:
                self.start_node(node)
            self.wait_idle()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the jobs' processes and the daemons, and remove the folder."""
        for pid in self._job_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end(self._daemon_pids())
        remove_folder(self.folder)

    def run(
        self, argv: Sequence[str | Path], *, limit_s: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a client command (`sbatch …`, `squeue …`) against this cluster, in its folder."""
        program = shutil.which(argv[0], path=self._search) or argv[0]
        return run(
            [program, *argv[1:]],
            environment=self.environment,
            limit_s=limit_s,
            check=check,
            folder=self.folder,
        )

    def accounting_lines(self) -> Sequence[str]:
        """Say in slurm.conf where accounting is; here it is nowhere."""
        return ["AccountingStorageType=accounting_storage/none"]

    def start_accounting(self) -> None:
        """Start what the controller writes its accounts to; here nothing."""

    def start_controller(self, *, is_clean: bool = False) -> None:
        """Start slurmctld; without *is_clean* it takes up the jobs and nodes it knew."""
        self.start_daemon("slurmctld", "-f", self.config, *(["-c"] if is_clean else []))
        self.wait_for_pid("slurmctld")

    def stop_controller(self) -> None:
        """End slurmctld only; client commands then fail after 9 s."""
        pid = pid_in(self.folder / "run/slurmctld.pid")
        if pid is not None:
            end([pid], grace_s=30)  # in which it saves what it knows

    def restart_controller(self) -> None:
        """Stop slurmctld, start it again and wait until it answers."""
        self.stop_controller()
        self.start_controller()
        wait_until(
            lambda: "is UP" in self.run(["scontrol", "ping"], check=False).stdout,
            "slurmctld answers",
            limit_s=60,
            logs=self.logs,
        )

    def start_node(self, node: str) -> None:
        """Start the slurmd of *node*."""
        self.start_daemon("slurmd", "-f", self.config, "-N", node)

    def stop_node(self, node: str) -> None:
        """End the slurmd of *node*; Slurm notices that only after its SlurmdTimeout."""
        pid = pid_in(self.folder / f"run/slurmd-{node}.pid")
        if pid is not None:
            end([pid])

    def clear(self) -> None:
        """Cancel every job and wait until the nodes are idle, so that a test starts from nothing."""
        self.run(["scancel", "--user", user()])
        self.wait_idle()

    def wait_idle(self, *, limit_s: float = 60) -> None:
        """Wait until all nodes are idle."""
        wait_until(self._is_idle, f"{len(self.nodes)} idle nodes", limit_s=limit_s, logs=self.logs)

    def job_states(self) -> Mapping[str, str]:
        """Return the state of each job that the controller knows, finished ones too."""
        lines = self.run(["squeue", "-h", "-t", "all", "-o", "%i %T"]).stdout.split()
        return dict(zip(lines[::2], lines[1::2], strict=True))

    def wait_for_job(self, job_id: str, *states: str, limit_s: float = 60) -> None:
        """Wait until the job is in one of *states* (RUNNING, COMPLETED, …)."""
        wait_until(
            lambda: self.job_states().get(job_id) in states,
            f"job {job_id} becomes {' or '.join(states)}",
            limit_s=limit_s,
            logs=lambda: self.run(["scontrol", "show", "job", job_id], check=False).stdout,
            interval_s=0.1,
        )

    def logs(self) -> str:
        """Return the tails of the daemons' logs."""
        return tails(sorted((self.folder / "log").glob("*.log")))

    def _write_files(self) -> None:
        for name in ("state", "spool", "log", "dev", "run"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        # Slurm refuses a munge socket whose folder others cannot enter, and jobs of other users
        # must reach their spool folder.
        self.folder.chmod(0o755)
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        gres: list[str] = []
        for node in self.nodes:
            for number in range(self.gpus):
                (self.folder / f"dev/{node}-gpu{number}").symlink_to("/dev/null")
            files = f"{self.folder}/dev/{node}-gpu[0-{self.gpus - 1}]"
            gres.append(f"NodeName={node} Name=gpu File={files}")
        (self.folder / "gres.conf").write_text("\n".join([*gres, ""]))
        self.config.write_text(self._config_text())
        if self._version() >= (23, 11):  # older ones die of this file, newer ones without it
            (self.folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")

    def _config_text(self) -> str:
        controller_port, *node_ports = free_ports(1 + len(self.nodes))
        host = socket.gethostname().partition(".")[0]
        node_lines = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={self.cpus}"
            f" RealMemory={self.memory_mib} Gres=gpu:{self.gpus} State=UNKNOWN"
            for node, port in zip(self.nodes, node_ports, strict=True)
        ]
        return _CONFIG.format(
            cluster="lab",
            host=host,
            controller_port=controller_port,
            user=user(),
            folder=self.folder,
            node_lines="\n".join(node_lines),
            grace_s=self.grace_s,
            gatherer=self._gatherer,
            accounting_lines="\n".join(self.accounting_lines()),
            more_lines="\n".join(self._more_config),
        )

    def _version(self) -> tuple[int, int]:
        words = self.run(["slurmd", "-V"]).stdout.split()  # "slurm-wlm 22.05.8"
        major, minor = words[1].split(".")[:2]
        return int(major), int(minor)

    def _start_munged(self) -> None:
        self.start_daemon(
            "munged",
            f"--socket={self.folder}/munge.sock",
            f"--key-file={self.folder}/munge.key",
            f"--pid-file={self.folder}/run/munged.pid",
            f"--log-file={self.folder}/log/munged.log",
            f"--seed-file={self.folder}/munge.seed",
            "--num-threads=4",
        )
        self.wait_for_pid("munged")

    def start_daemon(self, name: str, *arguments: str | Path) -> None:
        """Run a program that goes into the background by itself."""
        program = shutil.which(name, path=self._search)
        if program is None:
            raise LabError(f"{name} is not installed")
        # The daemons fork and close nothing: a pipe of ours would never end, so their output goes
        # to a file. Their exit status says nothing either; waiting for what they do is the check.
        with (self.folder / f"log/{name}.out.log").open("ab") as output:
            subprocess.run(
                [program, *map(str, arguments)],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=60,
                check=False,
            )

    def wait_for_pid(self, name: str) -> None:
        """Wait until a daemon has left its process id and lives."""
        path = self.folder / f"run/{name}.pid"
        wait_until(
            lambda: (pid := pid_in(path)) is not None and is_alive(pid),
            f"{name} runs",
            limit_s=60,
            logs=self.logs,
        )

    def _is_idle(self) -> bool:
        done = self.run(["sinfo", "-h", "-N", "-p", "gpu", "-o", "%T"], check=False)
        return done.stdout.split() == ["idle"] * len(self.nodes)

    def _daemon_pids(self) -> list[int]:
        found = [pid_in(path) for path in sorted((self.folder / "run").glob("*.pid"))]
        return [pid for pid in found if pid is not None and is_alive(pid)]

    def _job_processes(self) -> list[int]:
        """Find what jobs left: our step daemons, and whatever has a job id and our SLURM_CONF."""
        ours = f"SLURM_CONF={self.config}".encode()
        found: list[int] = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                variables = (folder / "environ").read_bytes().split(b"\0")
                is_step = (folder / "comm").read_text().strip() == "slurmstepd"
                # Newer ones hide their environment, and stand in the folder of their log.
                is_our_step = is_step and (folder / "cwd").readlink().is_relative_to(self.folder)
            except OSError:  # ended meanwhile, or not ours to read
                continue
            has_job = any(variable.startswith(b"SLURM_JOB_ID=") for variable in variables)
            if is_our_step or (ours in variables and (is_step or has_job)):
                found.append(int(folder.name))
        return found


def user() -> str:
    """Return who runs the cluster and all of its jobs."""
    return pwd.getpwuid(os.geteuid()).pw_name
