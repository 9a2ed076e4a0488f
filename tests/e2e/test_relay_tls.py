"""Tasks as Slurm jobs that reach the master through a relay with a certificate of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.conftest import SlurmSite, open_slurm_site
from tests.e2e.tasks import wait_for_end, wait_for_lines
from tests.e2e.test_slurm_jobs import create_task
from tests.lab.det import Det
from tests.lab.processes import free_ports
from tests.lab.slurm import Slurm


@pytest.fixture(scope="module")
def tls_site(
    det: Callable[..., Det], slurm: Slurm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SlurmSite]:
    """A Slurm site whose relay shows a certificate that only its jobs are told to trust."""
    cert = tmp_path_factory.mktemp("relay") / "relay.crt"
    key = cert.with_suffix(".key")
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    argv += ["-nodes", "-days", "2", "-subj", "/CN=relay", "-addext"]
    argv += ["subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(argv, check=True, capture_output=True)
    [port] = free_ports(1)
    listen_tls = {"certificate_file": str(cert), "key_file": str(key), "trust_file": str(cert)}
    with ExitStack() as stack:
        yield open_slurm_site(
            stack,
            det,
            slurm,
            runtime="sandbox",
            launcher={"relay": {"port": port, "listen_tls": listen_tls}},
        )


def test_jobs_verify_the_relay_and_their_output_and_their_calls_pass(
    tls_site: SlurmSite, tmp_path: Path
) -> None:
    task_id = create_task(
        tls_site, tmp_path, f"echo by $DET_MASTER; exec {sys.executable} gather.py"
    )
    wait_for_end(tls_site.api, task_id)
    assert wait_for_lines(tls_site.api, task_id, "by https://127.0.0.1:", 2)
    lines = wait_for_lines(tls_site.api, task_id, "gathered ", 4)
    answers = [json.loads(line.partition("gathered ")[2]) for line in lines]
    assert sorted(answer["by"] for answer in answers) == [0, 1, 2, 3]
    assert all([peer["rank"] for peer in answer["data"]] == [0, 1, 2, 3] for answer in answers)
