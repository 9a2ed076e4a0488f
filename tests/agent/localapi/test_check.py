"""What `shipway-agent check` says of the agent's own port."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from shipway_agent.checks.files import find_unsafe
from shipway_agent.checks.port import check_port
from shipway_agent.config import AgentSettings
from tests.agent.localapi.test_port import make_certificate


def found(**changes: Any) -> list[tuple[str, str]]:
    settings = AgentSettings.model_validate({"api_enabled": True, "bind_port": 0, **changes})
    return [(one.severity, one.place) for one in check_port(settings, "f")]


def test_a_port_that_is_not_wanted_is_not_tried() -> None:
    assert found(api_enabled=False, bind_ip="nowhere") == []


def test_a_free_port_is_well() -> None:
    assert found() == [("ok", "f: bind_port")]


def test_a_port_in_use_is_a_warning_for_it_may_be_the_agents_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert found(bind_port=taken.getsockname()[1]) == [("warning", "f: bind_port")]


def test_an_address_of_another_machine_is_an_error() -> None:
    assert ("error", "f: bind_port") in found(bind_ip="192.0.2.1")


def test_a_port_for_all_without_tls_is_a_warning() -> None:
    assert found(bind_ip="0.0.0.0")[1:] == [("warning", "f: bind_ip")]
    assert found(bind_ip="[::1]")[1:] == []


def test_the_certificate_is_read(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    files = {"tls": True, "bind_ip": "0.0.0.0", "tls_cert": cert, "tls_key": key}
    assert found(**files)[1:] == [("ok", "f: tls_cert")]
    assert found(**{**files, "tls_key": cert})[1:] == [("error", "f: tls_cert")]
    assert found(**{**files, "tls_cert": "/none"})[1:] == [("error", "f: tls_cert")]
    key.chmod(0o644)
    settings = AgentSettings.model_validate({"api_enabled": True, **files})
    assert [problem.place for problem in find_unsafe(settings, None)] == ["settings: tls_key"]
