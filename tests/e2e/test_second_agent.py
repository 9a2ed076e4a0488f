"""Two agents of one id at one master."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.e2e.conftest import Site
from tests.lab.shipway import Agent


def test_the_second_is_told_where_the_first_one_is(site: Site, tmp_path: Path) -> None:
    second = Agent(tmp_path, site.master, agent_id="agent-a")
    second.start()
    first_is = f"websocket already connected, from 127.0.0.1 (host {socket.gethostname()})"
    try:
        second.wait_until(lambda: first_is in second.log.read_text(), "it is told")
    finally:
        second.stop()
    assert site.api.call("GET", "/api/v1/agents/agent-a")["agent"]["enabled"]
