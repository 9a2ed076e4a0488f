"""The demo's story: one task, pre-empted once, from its launch to its end."""

from __future__ import annotations

import asyncio
import shutil
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from demo.api import Api, ApiError
from demo.evidence import Evidence
from demo.parts import Part, find_free_port, running_part
from demo.screen import Screen
from demo.slurm import SlurmSite

RANKS = 4
STEPS = 120
PREEMPT_AT_STEP = 40
CHARTED = ("cpu_", "gpu_", "memory_")
TASK_FOLDER = Path(__file__).parent / "task"

Preempt = Callable[[str], Awaitable[None]]


class Story:
    """A master, an agent and, where there is Slurm, a launcher; and what happens on them."""

    def __init__(self, folder: Path, screen: Screen, slurm: SlurmSite | None) -> None:
        self._folder = folder
        self._screen = screen
        self._slurm = slurm

    async def tell(self) -> bool:
        """Run everything; return whether all of it was seen to happen."""
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._folder.mkdir(mode=0o700)
        async with self._running_parts() as api:
            self._screen.headline("a pre-emptible task on the slots of an agent")
            seen = await self._run_task(
                api, 1, {"resources": {"slots": RANKS}}, preempt=self._preempt_through(api)
            )
            if self._slurm is None:
                self._screen.step("no Slurm here (sinfo does not answer): the agent's part is all")
                return seen
            self._screen.headline(f"the same task as a Slurm job in {self._slurm.partition}")
            options = {
                "resources": {"slots": RANKS, "resource_pool": self._slurm.partition},
                "slurm": {"slots_per_node": RANKS // self._slurm.nodes},
            }
            seen_on_slurm = await self._run_task(api, 2, options, preempt=self._slurm.send_notice)
            return seen and seen_on_slurm

    @asynccontextmanager
    async def _running_parts(self) -> AsyncGenerator[Api]:
        self._screen.headline("the parts")
        port = find_free_port()
        url = f"http://127.0.0.1:{port}"
        async with AsyncExitStack() as stack:
            flags: list[str] = []
            if self._slurm is not None:
                launcher_port = find_free_port()
                configs = self._slurm.write_configs(self._folder, launcher_port, port)
                launcher = await stack.enter_async_context(
                    running_part(
                        "shipway-launcher", "serve", "--config", str(configs.launcher),
                        folder=self._folder,
                    )
                )  # fmt: skip
                await launcher.wait_for_url(f"http://127.0.0.1:{launcher_port}/info/version/server")
                self._screen.step(f"shipway-launcher serves http://127.0.0.1:{launcher_port}")
                flags = ["--config", str(configs.master)]
            data = self._folder / "master"
            master = await stack.enter_async_context(
                running_part(
                    "shipway-master", "serve", "--data", str(data), "--port", str(port), *flags,
                    folder=self._folder,
                )
            )  # fmt: skip
            await master.wait_for_url(f"{url}/info")
            self._screen.step(f"shipway-master serves {url}")
            api = await stack.enter_async_context(Api(url))
            await api.login("determined", (data / "initial-password").read_text().strip())
            agent = await stack.enter_async_context(
                running_part(
                    "shipway-agent", "run",
                    "--master-host", "127.0.0.1", "--master-port", str(port),
                    "--agent-id", "demo-node",
                    "--artificial-slots", str(RANKS), "--container-runtime", "sandbox",
                    "--state-dir", str(self._folder / "agent"),
                    folder=self._folder,
                )
            )  # fmt: skip
            self._screen.agents(await self._wait_for_agents(api, agent))
            yield api

    async def _wait_for_agents(self, api: Api, agent: Part) -> list[Mapping[str, Any]]:
        async with asyncio.timeout(30):
            while True:
                agent.require_alive()
                agents = (await api.call("GET", "agents"))["agents"]
                if any(one["id"] == "demo-node" and len(one["slots"]) == RANKS for one in agents):
                    return list(agents)
                await asyncio.sleep(0.2)

    async def _run_task(
        self,
        api: Api,
        number: int,
        options: Mapping[str, Any],
        *,
        preempt: Preempt,
    ) -> bool:
        evidence = Evidence(ranks=RANKS)
        trial_id = await api.create_trial()  # metrics are kept by trial
        checkpoints = self._folder / f"checkpoints-{number}"
        checkpoints.mkdir()
        config = {
            "entrypoint": [
                "python3", "train.py",
                "--steps", str(STEPS), "--checkpoint", str(checkpoints / "state.json"),
            ],
            "bind_mounts": [
                {"host_path": str(checkpoints), "container_path": str(checkpoints)},
            ],
            "environment": {
                "environment_variables": [f"DET_TRIAL_ID={trial_id}", "SHIPWAY_PROFILE=true"],
            },
            **options,
        }  # fmt: skip
        task_id = await api.create_task(config, TASK_FOLDER)
        self._screen.step(f"task {task_id} wants {RANKS} slots; its log:")
        preempted = False
        async for line in api.stream(f"tasks/{task_id}/logs?follow=true"):
            self._screen.log(line)
            evidence.read_log(line)
            if not preempted and evidence.steps and evidence.steps[-1][0] >= PREEMPT_AT_STEP:
                preempted = True
                self._screen.step("someone more important needs the slots: the task is asked to go")
                await preempt(await self._fetch_live_allocation(api, task_id))
        task = (await api.call("GET", f"tasks/{task_id}"))["task"]
        evidence.allocations = task["allocations"]
        evidence.series = await self._fetch_series(api, trial_id)
        self._screen.headline("what it used")
        self._screen.charts(evidence.series)
        if not any(name.startswith("gpu_") for name in evidence.series):
            self._screen.step("no GPU that NVML can read here, so no GPU metrics")
        self._screen.headline("what was seen")
        self._screen.findings(evidence.findings())
        return evidence.was_all_seen()

    @staticmethod
    async def _fetch_live_allocation(api: Api, task_id: str) -> str:
        task = (await api.call("GET", f"tasks/{task_id}"))["task"]
        return str(task["allocations"][0]["allocationId"])

    @staticmethod
    def _preempt_through(api: Api) -> Preempt:
        async def preempt(allocation_id: str) -> None:
            await api.call("POST", f"allocations/{allocation_id}/signals/pending_preemption")

        return preempt

    @staticmethod
    async def _fetch_series(api: Api, trial_id: int) -> dict[str, list[float]]:
        """Fetch what the profiler measured, as one list of values per series."""
        series: dict[str, list[float]] = defaultdict(list)
        async for result in api.stream(f"trials/{trial_id}/profiler/available_series"):
            for labels in result["labels"]:
                if labels["name"].startswith(CHARTED):
                    series[_name_series(labels)] = []
            break  # the stream goes on as long as new series may appear
        for name in list(series):
            metric = name.split(" ")[0]
            try:
                async for result in api.stream(
                    f"trials/{trial_id}/profiler/metrics?labels.name={metric}"
                ):
                    batch = result["batch"]
                    if _name_series(batch["labels"]) == name:
                        series[name].extend(batch["values"])
            except ApiError:
                del series[name]
        return {name: values for name, values in series.items() if values}


def _name_series(labels: Mapping[str, Any]) -> str:
    return " ".join(part for part in (labels["name"], labels["agentId"], labels["gpuUuid"]) if part)
