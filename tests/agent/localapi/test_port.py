"""The agent's own port, read as Prometheus and people read it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from shipway_agent.config import AgentSettings
from shipway_agent.localapi.server import serve
from tests.agent.conftest import AgentProcess
from tests.agent.localapi.conftest import Port
from tests.agent.profiler.driver import Driver
from tests.agent.stand_in import StandInMaster
from tests.lab.processes import free_ports

SECRET = "s3cret-of-the-task"
BUSY = ("/bin/sh", "-c", "while :; do :; done")

Samples = dict[str, list[tuple[dict[str, str], float]]]


async def scrape(port: Port) -> Samples:
    """Read all samples by name."""
    status, _, text = await port.get("/metrics")
    assert status == 200
    found: Samples = {}
    for family in parse_text(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


async def scrape_until(port: Port, is_so: Callable[[Samples], object]) -> Samples:
    async with asyncio.timeout(60):
        while True:
            found = await scrape(port)
            if is_so(found):
                return found
            await asyncio.sleep(0.1)


async def start_task(master: StandInMaster, *words: str, **changes: Any) -> str:
    environment = ["DET_ALLOCATION_ID=t-7.3", f"DET_SESSION_TOKEN={SECRET}", f"MINE={SECRET}"]
    container_id = await master.start(*words, environment=environment, **changes)
    await master.reached(container_id, "RUNNING")
    return container_id


async def test_a_tasks_numbers_have_its_names(
    agent: AgentProcess, master: StandInMaster, port: Port, gpus: Driver
) -> None:
    gpus.says(BUSY0=42, USED0=5, POWER0=3)
    await agent.start()
    await master.connected()
    container_id = await start_task(master, *BUSY)
    found = await scrape_until(
        port,
        lambda found: (found.get("shipway_agent_container_cpu_seconds_total") or [({}, 0)])[0][1],
    )
    owner = {"container_id": container_id, "task_id": "t-7", "allocation_id": "t-7.3"}
    ((labels, seconds),) = found["shipway_agent_container_cpu_seconds_total"]
    assert labels == owner
    assert seconds > 0
    ((labels, _),) = found["shipway_agent_container_info"]
    assert labels["source"] == "processes"
    assert labels["container_runtime_id"] == container_id
    # Only that GPU is the task's; what it does not tell is not there.
    utilization = {
        one["gpu_uuid"]: (one, value) for one, value in found["shipway_agent_gpu_utilization_ratio"]
    }
    assert utilization["GPU-0"] == ({"gpu_uuid": "GPU-0", **owner}, 0.42)
    assert utilization["GPU-1"][0]["container_id"] == ""
    assert [one["gpu_uuid"] for one, _ in found["shipway_agent_gpu_power_watts"]] == ["GPU-1"]
    assert found["shipway_agent_containers"] == [({"state": "RUNNING"}, 1)]
    assert found["shipway_agent_connected"] == [({}, 1)]
    assert {value for _, value in found["shipway_agent_slot_healthy"]} == {1}
    assert found["process_resident_memory_bytes"][0][1] < 100 << 20
    assert {one["mode"] for one, _ in found["shipway_agent_node_cpu_seconds_total"]} >= {
        "idle",
        "user",
    }


async def test_a_scraper_gets_the_form_that_it_asks_for(agent: AgentProcess, port: Port) -> None:
    await agent.start()
    await port.until("/slots", 200)
    _, kind, text = await port.get("/metrics")
    assert kind.startswith("text/plain; version=0.0.4")
    assert not text.endswith("# EOF\n")
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    _, kind, text = await port.get("/metrics", Accept=accept)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in parse_openmetrics(text)}
    assert {"shipway_agent_build", "shipway_agent_node_cpu_seconds"} <= names


async def test_every_name_says_what_it_is(agent: AgentProcess, port: Port) -> None:
    await agent.start()
    await port.until("/slots", 200)
    _, _, text = await port.get("/metrics")
    for family in parse_text(text):
        assert family.documentation
        assert family.type in {"counter", "gauge"}
        if not family.name.startswith("process_"):
            assert re.fullmatch(r"shipway_agent_[a-z_]+", family.name)


async def test_containers_are_described_without_secrets(
    agent: AgentProcess, master: StandInMaster, port: Port
) -> None:
    await agent.start()
    await master.connected()
    assert (await port.until("/containers", 200))["containers"] == []
    container_id = await start_task(master, "sleep", "1000", Image="some/image:1")
    (found,) = (await port.until("/containers", 200))["containers"]
    assert found["container_id"] == container_id
    assert (found["state"], found["image"]) == ("RUNNING", "some/image:1")
    assert (found["task_id"], found["allocation_id"]) == ("t-7", "t-7.3")
    assert found["devices"] == master.hellos[-1]["Devices"][:1]
    assert found["usage"]["memory_used_bytes"] > 0
    assert SECRET not in json.dumps(found)
    # An agent that comes back knows as much, the beginning of the task included.
    await agent.end()
    await agent.start()
    await master.connected(2)
    await scrape_until(port, lambda found: found.get("shipway_agent_containers"))
    again = (await port.until("/containers", 200))["containers"]
    again[0]["usage"] = found["usage"]
    assert again == [found]


async def test_slots_are_told_as_by_the_command_line(
    agent: AgentProcess, port: Port, gpus: Driver
) -> None:
    await agent.start()
    body = await port.until("/slots", 200)
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shipway_agent", "slots", "--json", "--slot-type=cuda"),
        env={**gpus.environ, "HOME": "/"},
        stdout=subprocess.PIPE,
    )
    output, _ = await command.communicate()
    told = json.loads(output)["slots"]
    assert [(slot["id"], slot["uuid"]) for slot in body["slots"]] == [(0, "GPU-0"), (1, "GPU-1")]
    assert [slot.keys() for slot in body["slots"]] == [slot.keys() for slot in told]


async def test_readiness_says_what_is_missing(
    agent: AgentProcess, master: StandInMaster, port: Port
) -> None:
    agent.settings["agent_reconnect_backoff"] = "0.1"
    await agent.start()
    assert await port.until("/readyz", 200) == {"ready": True, "reasons": []}
    assert (await port.get("/healthz"))[0] == 200
    await master.drop()
    master.refusals += [web.Response(status=503) for _ in range(1000)]
    body = await port.until("/readyz", 503)
    assert body == {
        "ready": False,
        "reasons": [f"not connected to the master at 127.0.0.1:{master.port}"],
    }
    assert (await port.get("/healthz"))[0] == 200
    assert (await scrape(port))["shipway_agent_connected"] == [({}, 0)]
    master.refusals.clear()
    await port.until("/readyz", 200)


async def test_nothing_can_be_changed_and_nothing_else_is_there(
    agent: AgentProcess, port: Port
) -> None:
    await agent.start()
    url = await port.find_url()
    for path in ("/metrics", "/containers", "/slots"):
        async with port.session.post(url + path, data=b"x") as answer:
            assert answer.status == 405
    assert (await port.get("/debug/pprof/"))[0] == 404
    status, _, body = await port.get("/")
    assert (status, "/metrics" in body["paths"]) == (200, True)
    _, _, body = await port.get("/version")
    assert (body["name"], body["agent_id"]) == ("shipway-agent", "node one")


async def test_the_port_is_closed_unless_it_is_wanted(
    agent: AgentProcess, master: StandInMaster
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        agent.settings["bind_port"] = str(taken.getsockname()[1])
        await agent.start()
        await master.connected()
    assert "local port" not in agent.log.read_text()


async def test_a_port_in_use_is_tried_again_and_stops_nobody(
    agent: AgentProcess, master: StandInMaster, port: Port
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        agent.settings["bind_port"] = str(taken.getsockname()[1])
        await agent.start()
        await master.connected()
        seen = await master.ended(await master.start("/bin/echo", "works"))
        assert seen.output() == ["works"]
    text = agent.log.read_text()
    assert re.search(rf"no local port at 127.0.0.1:{agent.settings['bind_port']}.*in use", text)


async def test_an_open_port_without_tls_is_warned_of(agent: AgentProcess, port: Port) -> None:
    agent.settings["bind_ip"] = "0.0.0.0"
    await agent.start()
    assert (await port.get("/healthz"))[0] == 200
    assert "open to other machines, without TLS" in agent.log.read_text()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", key, "-out", cert, "-subj", "/CN=node"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


async def test_tls_is_spoken_with_the_given_certificate(
    agent: AgentProcess, port: Port, tmp_path: Path
) -> None:
    cert, key = make_certificate(tmp_path)
    agent.settings |= {"tls": "true", "tls_cert": str(cert), "tls_key": str(key)}
    await agent.start()
    port.trust = ssl.create_default_context(cafile=str(cert))
    assert (await port.get("/healthz"))[0] == 200


async def test_a_renewed_certificate_is_taken_up(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    (number,) = free_ports(1)
    settings = AgentSettings.model_validate(
        {"api_enabled": True, "bind_port": number, "tls": True, "tls_cert": cert, "tls_key": key}
    )
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE

    async def shown() -> bytes | None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", number, ssl=trust)
        except OSError:
            return None
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return certificate

    async def shown_other_than(*former: bytes | None) -> bytes | None:
        async with asyncio.timeout(60):
            while True:
                if (certificate := await shown()) not in former:
                    return certificate
                await asyncio.sleep(0.05)

    serving = asyncio.create_task(serve(settings, lambda: None, reload_s=0.05))
    try:
        first = await shown_other_than(None)
        cert.write_text("half of it")
        await asyncio.sleep(0.2)
        assert await shown() == first
        make_certificate(tmp_path)
        await shown_other_than(None, first)
    finally:
        serving.cancel()
        await asyncio.wait([serving])
