"""A stand-in for OpenPBS: its commands by their names, one server, and hosts that are this machine.

Options, directives, answers and errors are as the sources of OpenPBS 23.06 and recorded output have
them. Jobs run for real: the script in a session of its own on the first host, and what pbs_tmrsh
starts on another host in one more, with that host's GPUs. As with PBS, qdel reaches the first host's
session alone, and what is left anywhere is killed when the script has ended.

The state is one JSON file, changed under a lock. Beside it a site's moods are files: `down` (nobody
reaches the server), `mute` (qsub's answer is lost), `no-history`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

SERVER = "pbs-lab"
VERSION = "23.06.06"
HOSTS = ("n1", "n2", "n3", "n4")
CPUS, GPUS = 8, 4
KILL_DELAY_S = 1.0
HOME = Path(sys.argv[0]).absolute().parent.parent
OPTIONS = "a:A:c:C:e:fhIj:J:k:l:m:M:N:o:p:q:r:R:S:u:v:VW:XzP:"
ATTRIBUTES = {"A": "Account_Name", "P": "project", "p": "Priority", "m": "Mail_Points"}
KNOWN = {"ncpus", "ngpus", "mem", "walltime", "host", "select", "place", "mpiprocs", "nodect"}

Job = dict[str, Any]


@contextlib.contextmanager
def server() -> Iterator[dict[str, Any]]:
    """Give the state to look at and change."""
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = HOME / "state.json"
        state = json.loads(path.read_text()) if path.exists() else {"next": 1, "jobs": {}}
        yield state
        aside = path.with_suffix(".new")
        aside.write_text(json.dumps(state))
        aside.rename(path)


def fail(text: str, status: int) -> NoReturn:
    """End as a command of PBS does."""
    sys.stderr.write(f"{text}\n")
    sys.exit(status)


def now() -> str:
    """Write the time as ctime does; TZ counts."""
    return time.ctime()


def qsub(arguments: Sequence[str]) -> None:
    """Take a job."""
    (script,) = arguments
    lines = Path(script).read_text().splitlines()
    directives = [line[4:] for line in lines if line.startswith("#PBS")]
    options: dict[str, str] = {}
    resources: dict[str, str] = {}
    variables: dict[str, str] = {}
    for directive in directives:
        for letter, value in getopt(split_words(directive)):
            if letter == "l":
                resources = {**read_resources(value), **resources}  # the first counts
            elif letter == "v":
                variables |= dict([value.split("=", 1)])
            else:
                options[letter] = value
    name = options.get("N", Path(script).name)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.+-]*", name) or len(name) > 230:
        fail("qsub: illegal -N value", 2)
    if options.get("q", "workq") not in ("workq", "gpuq"):
        fail("qsub: Unknown queue", 170)
    inherited = {k: v for k, v in os.environ.items() if "V" in options and k != "LC_ALL"}
    with server() as state:
        job_id = f"{state['next']}.{SERVER}"
        state["next"] += 1
        state["jobs"][job_id] = {
            "Job_Name": name,
            "Job_Owner": f"{os.environ.get('LOGNAME', 'root')}@login",
            "job_state": "Q",
            "queue": options.get("q", "workq"),
            "server": SERVER,
            "ctime": now(),
            "Error_Path": f"login:{options['e']}",
            "Hold_Types": "n",
            "Join_Path": "n",
            "Keep_Files": options.get("k", "n"),
            "Output_Path": f"login:{options['o']}",
            "Rerunable": "False" if options.get("r") == "n" else "True",
            "Resource_List": describe(resources),
            "substate": 10,
            "Variable_List": {"PBS_O_WORKDIR": os.getcwd(), **inherited, **variables},
            **{ATTRIBUTES[key]: options[key] for key in ATTRIBUTES if key in options},
            "_umask": options.get("W", "").removeprefix("umask=") or "0077",
        }
        shutil.copy(script, HOME / f"{job_id}.SC")
        schedule(state)
    if (HOME / "mute").exists():
        (HOME / "mute").unlink()
        fail("qsub: End of File", 15)
    sys.stdout.write(job_id + "\n")


def getopt(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Read options in POSIX's way."""
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("-") or len(word) < 2:
            fail("qsub: directive error: " + " ".join(words), 1)
        rest = word[1:]
        while rest:
            letter, rest = rest[0], rest[1:]
            if letter not in OPTIONS.replace(":", ""):
                fail(f"qsub: invalid option -- '{letter}'", 2)
            if f"{letter}:" not in OPTIONS:
                yield letter, ""
                continue
            yield letter, rest or left.pop(0)
            rest = ""


def split_words(line: str) -> list[str]:
    """Split a directive: quotes hold, without any escape; outside them a backslash escapes."""
    words: list[str] = []
    word, is_word, quote, escaped = "", False, "", False
    for character in line:
        if escaped:
            word, escaped = word + character, False
        elif quote:
            if character == quote:
                quote = ""
            else:
                word += character
        elif character in "\"'":
            quote, is_word = character, True
        elif character == "\\":
            escaped, is_word = True, True
        elif character.isspace():
            if is_word:
                words.append(word)
            word, is_word = "", False
        else:
            word, is_word = word + character, True
    if quote:
        fail(f"qsub: unmatched {quote}", 1)
    return [*words, word] if is_word else words


def read_resources(text: str) -> dict[str, str]:
    """Read the value of -l."""
    found = dict(item.partition("=")[::2] for item in text.split(","))
    for name, value in found.items():
        if name not in KNOWN:
            fail(f"qsub: Unknown resource: {name}", 35)
        if not value:
            fail("qsub: illegal -l value", 2)
    return found


def chunks_of(select: str) -> list[dict[str, int]]:
    """Return what each chunk asks for."""
    count, *parts = select.split(":")
    asked = dict(part.split("=") for part in parts)
    for name in asked:
        if name not in KNOWN:
            fail(f"qsub: Unknown resource: {name}", 35)
    chunk = {"ncpus": int(asked.get("ncpus", 1)), "ngpus": int(asked.get("ngpus", 0))}
    return [chunk] * int(count)


def describe(resources: Mapping[str, str]) -> dict[str, Any]:
    """Return the resources as the server completes them."""
    chunks = chunks_of(resources.get("select", "1"))
    return {
        **resources,
        "ncpus": sum(chunk["ncpus"] for chunk in chunks),
        "ngpus": sum(chunk["ngpus"] for chunk in chunks),
        "nodect": len(chunks),
        "place": resources.get("place", "free"),
        "select": resources.get("select", "1:ncpus=1"),
    }


def schedule(state: dict[str, Any]) -> None:
    """Start what fits, and say of the rest why it waits."""
    for job_id, job in state["jobs"].items():
        if job["job_state"] != "Q":
            continue
        chunks = chunks_of(job["Resource_List"]["select"])
        scatters = job["Resource_List"]["place"] == "scatter"
        if place(chunks, [], scatters=scatters) is None:
            job["comment"] = (
                "Can Never Run: Insufficient amount of resource: ngpus (R: 99 A: 16 T: 16)"
            )
            continue
        busy = [
            found["_placed"] for found in state["jobs"].values() if found["job_state"] in ("R", "E")
        ]
        placed = place(chunks, busy, scatters=scatters)
        if placed is None:
            job["comment"] = "Not Running: Insufficient amount of resource: ngpus (R: 4 A: 0 T: 16)"
            continue
        job |= {
            "job_state": "R",
            "substate": 42,
            "stime": now(),
            "run_count": 1,
            "exec_host": "+".join(f"{host}/0*{chunk['ncpus']}" for host, chunk, _ in placed),
            "exec_vnode": "+".join(f"({host}:ncpus={chunk['ncpus']})" for host, chunk, _ in placed),
            "comment": f"Job run at {time.strftime('%a %b %d at %H:%M')} on ({placed[0][0]}:ncpus=1)",
            "_placed": placed,
            "_sessions": [],
        }
        with (HOME / "log").open("ab") as log:
            subprocess.Popen(
                [sys.executable, sys.argv[0], "--run", job_id],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def place(
    chunks: Sequence[Mapping[str, int]], busy: Sequence[Any], *, scatters: bool
) -> list[tuple[str, Mapping[str, int], list[int]]] | None:
    """Find a host and GPUs for each chunk; None if there are not enough."""
    cpus = dict.fromkeys(HOSTS, CPUS)
    gpus = {host: list(range(GPUS)) for host in HOSTS}
    for placed in busy:
        for host, chunk, numbers in placed:
            cpus[host] -= chunk["ncpus"]
            gpus[host] = [number for number in gpus[host] if number not in numbers]
    found: list[tuple[str, Mapping[str, int], list[int]]] = []
    for chunk in chunks:
        for host in HOSTS:
            is_taken = scatters and any(host == other for other, _, _ in found)
            if not is_taken and cpus[host] >= chunk["ncpus"] and len(gpus[host]) >= chunk["ngpus"]:
                cpus[host] -= chunk["ncpus"]
                numbers = [gpus[host].pop(0) for _ in range(chunk["ngpus"])]
                found.append((host, chunk, numbers))
                break
        else:
            return None
    return found


def job_environment(job_id: str, job: Job, host: str) -> dict[str, str]:
    """Return what a process of a job finds on a host."""
    numbers = [
        number for where, _, numbers in job["_placed"] if where == host for number in numbers
    ]
    visible = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, numbers))} if numbers else {}
    return {
        **job["Variable_List"],
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_JOBID": job_id,
        "PBS_JOBNAME": job["Job_Name"],
        "PBS_NODEFILE": str(HOME / f"{job_id}.nodes"),
        "TMPDIR": "/var/tmp",
        **visible,
    }


def path_of(job: Job, key: str) -> str:
    """Return where output goes."""
    return str(job[key]).partition(":")[2]


def run_job(job_id: str) -> None:
    """Be the mom of the first host: run the script to its end."""
    with server() as state:
        job = state["jobs"][job_id]
        hosts = [host for host, _, _ in job["_placed"]]
        (HOME / f"{job_id}.nodes").write_text("".join(f"{host}\n" for host in hosts))
        os.umask(int(job["_umask"], 8))
        with (
            open(path_of(job, "Output_Path"), "ab") as out,
            open(path_of(job, "Error_Path"), "ab") as err,
        ):
            process = subprocess.Popen(
                ["/bin/bash", HOME / f"{job_id}.SC"],
                env=job_environment(job_id, job, hosts[0]),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        job["_sessions"].append(process.pid)
    ends_at = time.monotonic() + seconds(job["Resource_List"].get("walltime"))
    kill_at = float("inf")
    is_late = False
    while process.poll() is None:
        time.sleep(0.05)
        if time.monotonic() > ends_at and not is_late:
            is_late = True
            signal_session(process.pid, signal.SIGTERM)
            kill_at = time.monotonic() + KILL_DELAY_S
        if kill_at == float("inf") and (HOME / f"{job_id}.del").exists():
            kill_at = time.monotonic() + KILL_DELAY_S
        if time.monotonic() > kill_at:
            signal_session(process.pid, signal.SIGKILL)
    code = process.returncode
    with server() as state:
        job = state["jobs"][job_id]
        for session in job["_sessions"]:
            signal_session(session, signal.SIGKILL)
        is_deleted = (HOME / f"{job_id}.del").exists()
        job["Exit_status"] = -29 if is_late else 256 - code if code < 0 else code
        job["job_state"] = "F"
        job["substate"] = 91 if is_deleted else 92 if code == 0 else 93
        if (HOME / "no-history").exists():
            del state["jobs"][job_id]
        schedule(state)


def seconds(walltime: str | None) -> float:
    """Read `00:00:05`."""
    if walltime is None:
        return float("inf")
    parts = reversed(walltime.split(":"))
    return float(sum(int(part) * 60**power for power, part in enumerate(parts)))


def signal_session(session: int, number: int) -> None:
    """Send a signal to all processes of a session."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if os.getsid(int(entry.name)) == session:
                    os.kill(int(entry.name), number)


def pbs_tmrsh(arguments: Sequence[str]) -> None:
    """Run a program on another host of the job, and end as it does."""
    host, *words = arguments
    job_id = os.environ["PBS_JOBID"]
    nodes = (HOME / f"{job_id}.nodes").read_text().split()
    if host not in nodes:
        fail(f'pbs_tmrsh: host "{host}" is not a node in job <{job_id}>', 255)
    with server() as state:
        job = state["jobs"][job_id]
        with (
            open(path_of(job, "Output_Path"), "ab") as out,
            open(path_of(job, "Error_Path"), "ab") as err,
        ):
            process = subprocess.Popen(
                words,
                env=job_environment(job_id, job, host),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
            )
        job["_sessions"].append(process.pid)
    code = process.wait()
    sys.exit(code if code >= 0 else -code)


def qstat(arguments: Sequence[str]) -> None:
    """Show jobs, queues or the server."""
    if list(arguments) == ["--version"]:
        sys.stdout.write(f"pbs_version = {VERSION}\n")
        return
    flags = {word for word in arguments if word.startswith("-")}
    names = [word for word in arguments if not word.startswith("-") and word != "json"]
    with server() as state:
        jobs = dict(state["jobs"])
    answer: dict[str, Any] = {
        "timestamp": int(time.time()),
        "pbs_version": VERSION,
        "pbs_server": SERVER,
    }
    status = 0
    if "-Q" in flags:
        shown = {"queue_type": "Execution", "total_jobs": 0, "enabled": "True", "started": "True"}
        answer["Queue"] = {"workq": shown, "gpuq": shown, "off": {**shown, "started": "False"}}
    elif "-B" in flags:
        history = {} if (HOME / "no-history").exists() else {"job_history_enable": "True"}
        about = {"server_state": "Active", "default_queue": "workq", **history}
        answer["Server"] = {SERVER: about}
    else:
        if "-x" in flags and (HOME / "no-history").exists():
            fail("qstat: PBS is not configured to maintain job history", 179)
        kept = {
            job_id: {key: value for key, value in job.items() if not key.startswith("_")}
            for job_id, job in jobs.items()
            if ("-x" in flags or job["job_state"] != "F") and (not names or job_id in names)
        }
        if kept:
            answer["Jobs"] = kept
        for name in names:
            if name not in jobs:
                sys.stderr.write(f"qstat: Unknown Job Id {name}\n")
                status = 153
    sys.stdout.write(json.dumps(answer, indent=4, separators=(",", ":")) + "\n")
    sys.exit(status)


def qdel(arguments: Sequence[str]) -> None:
    """End jobs."""
    status = 0
    with server() as state:
        for name in arguments:
            job = state["jobs"].get(name)
            if job is None:
                sys.stderr.write(f"qdel: Unknown Job Id {name}\n")
                status = 153
            elif job["job_state"] == "F":
                sys.stderr.write(f"qdel: Job has finished {name}\n")
                status = 35
            elif job["job_state"] == "Q":
                job |= {"job_state": "F", "substate": 91}
            else:
                (HOME / f"{name}.del").touch()
                signal_session(job["_sessions"][0] if job["_sessions"] else 0, signal.SIGTERM)
        schedule(state)
    sys.exit(status)


def qsig(arguments: Sequence[str]) -> None:
    """Signal jobs."""
    _, word, *names = arguments
    number = signal.Signals[f"SIG{word.removeprefix('SIG')}"]
    status = 0
    with server() as state:
        for name in names:
            job = state["jobs"].get(name)
            if job is None or job["job_state"] != "R":
                what = "Unknown Job Id" if job is None else "Request invalid for state of job"
                sys.stderr.write(f"qsig: {what} {name}\n")
                status = 153
            else:
                signal_session(job["_sessions"][0] if job["_sessions"] else 0, number)
    sys.exit(status)


def pbsnodes(_: Sequence[str]) -> None:
    """Show all virtual nodes; the last host has its GPUs on two, beside their parent."""
    with server() as state:
        jobs = {
            job_id: job for job_id, job in state["jobs"].items() if job["job_state"] in ("R", "E")
        }
    nodes: dict[str, Any] = {}
    for host in HOSTS:
        own = [
            (job_id, chunk)
            for job_id, job in jobs.items()
            for where, chunk, _ in job["_placed"]
            if where == host
        ]
        used = {
            name: sum(chunk[name] for _, chunk in own)
            for name in ("ncpus", "ngpus")
            if any(chunk[name] for _, chunk in own)
        }
        parts = [(host, CPUS, GPUS)]
        if host == HOSTS[-1]:
            parts = [(host, 0, 0), (f"{host}[0]", 4, 2), (f"{host}[1]", 4, 2)]
        for number, (name, cpus, gpus) in enumerate(parts):
            nodes[name] = {
                "Mom": host,
                "Port": 15002,
                "pbs_version": VERSION,
                "ntype": "PBS",
                "state": "free",
                "pcpus": CPUS,
                "resources_available": {
                    "arch": "linux",
                    "host": host,
                    "mem": "16384mb",
                    "ncpus": cpus,
                    **({"ngpus": gpus} if gpus else {}),
                    "vnode": name,
                },
                "resources_assigned": used if number == len(parts) - 1 else {},
                **({"jobs": [f"{job_id}/0" for job_id, _ in own]} if own else {}),
                "resv_enable": "True",
                "sharing": "default_shared",
            }
    answer = {"timestamp": int(time.time()), "pbs_version": VERSION, "pbs_server": SERVER}
    sys.stdout.write(json.dumps({**answer, "nodes": nodes}, indent=4, separators=(",", ":")) + "\n")


def main() -> None:
    """Be the command that this was called as."""
    name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    if arguments[:1] == ["--run"]:
        run_job(arguments[1])
        return
    is_local = name == "pbs_tmrsh" or arguments == ["--version"]
    if not is_local and (HOME / "down").exists():
        fail(f"Connection refused\n{name}: cannot connect to server {SERVER} (errno=111)", 111)
    commands = {
        "qsub": qsub,
        "qstat": qstat,
        "qdel": qdel,
        "qsig": qsig,
        "pbsnodes": pbsnodes,
        "pbs_tmrsh": pbs_tmrsh,
    }
    commands[name](arguments)


if __name__ == "__main__":
    main()
