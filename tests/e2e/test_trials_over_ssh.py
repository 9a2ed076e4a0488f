"""A trial over two agents whose ranks are started by ssh, as horovod and deepspeed do it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.conftest import Site
from tests.e2e.experiments import create, describe, fetch_trials, wait_for_end, write_config
from tests.e2e.tasks import fetch_log
from tests.lab.processes import free_ports, wait_until
from tests.lab.shipway import Agent

HOROVODRUN = Path(__file__).parent / "payloads/bin/horovodrun"


@pytest.fixture
def _nodes(site: Site) -> Iterator[None]:
    """Two agents with a slot each in the pool `nodes`."""
    names = {"node-1", "node-2"}

    def are_there() -> bool:
        agents = site.api.call("GET", "/api/v1/agents")["agents"]
        return names <= {agent["id"] for agent in agents}

    with ExitStack() as stack:
        for name in sorted(names):
            agent = Agent(site.folder, site.master, agent_id=name, slots=1, pool="nodes")
            stack.callback(agent.stop)
            agent.launch()
        wait_until(are_there, "both agents are known", limit_s=30)
        yield


@pytest.mark.usefixtures("_nodes")
def test_the_horovod_launcher_reaches_the_other_node(site: Site, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    shutil.copy(HOROVODRUN, code)
    (code / "rank.sh").write_text('echo "rank $HOROVOD_RANK by ${SSH_CONNECTION:-itself}"\n')
    (port,) = free_ports(1)  # both nodes are this machine, where other tests run as well
    config = write_config(
        tmp_path,
        f'export PATH="$PWD:$PATH" DTRAIN_SSH_PORT={port}; '
        "exec python -m determined.launch.horovod sh rank.sh",
        resources={"resource_pool": "nodes", "slots_per_trial": 2},
    )
    experiment_id = create(site, config, model=code)
    ended = wait_for_end(site.api, experiment_id)
    assert ended["state"] == "STATE_COMPLETED", describe(site.api, experiment_id)
    log = fetch_log(site.api, fetch_trials(site.api, experiment_id)[0]["taskId"])
    ranks = [line.split() for line in log if line.startswith("rank ")]
    assert [rank[-1] for rank in ranks] == ["itself", str(port)], log
