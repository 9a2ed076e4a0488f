"""The long attack, by hand: `python -m tests.master.hostile --rounds 1000`."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import time
from contextlib import ExitStack

from tests.lab.folders import new_folder
from tests.lab.postgres import Postgres
from tests.master.hostile.target import Target, target_running


async def _attack(target: Target, rounds: int, seed: int) -> None:
    async with target.with_agent():
        for number in range(rounds):
            known = len(target.problems)
            began = time.monotonic()
            sent = await target.attack_rest(1, seed=seed + number)
            sent += await target.attack_grpc(1, seed=seed + number)
            took_s = time.monotonic() - began
            report = f"{sent} in {took_s:.1f} s, {target.memory_mib:.0f} MiB"
            print(f"seed {seed + number}: {report}, {len(target.problems)} problems", flush=True)
            print(*target.problems[known:], sep="\n\n", end="", flush=True)


def main() -> None:
    """Attack a master as often as is wanted, and say what is wrong with its answers."""
    parser = argparse.ArgumentParser(prog="python -m tests.master.hostile", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="how often each RPC is asked")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--postgres", action="store_true", help="on a server started for this")
    chosen = parser.parse_args()
    folder = new_folder("hostile")
    try:
        with ExitStack() as stack:
            server = stack.enter_context(Postgres()) if chosen.postgres else None
            url = None if server is None else server.make_database()
            target = stack.enter_context(target_running(folder, database_url=url))
            asyncio.run(_attack(target, chosen.rounds, chosen.seed))
            print(*(f"{answer}: {count}" for answer, count in target.answers.most_common()))
            target.require_sound()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
