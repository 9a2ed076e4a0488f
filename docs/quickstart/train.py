"""Fits a line to points that lie in pieces on several nodes: one process for each slot, the Core API alone.

The harness starts this file once on each node. It starts the ranks of that node, each of which has its own
points; after each step all of them have the mean of all gradients. A rank needs nothing but Python and the
package `determined`.
"""

import os
import pathlib
import random
import subprocess
import sys
import time

import determined as det
from determined import core

info = det.get_cluster_info()


def start_ranks() -> int:
    """Start the ranks of this node and return the worst of their exit codes."""
    ranks = [
        subprocess.Popen([sys.executable, __file__, str(number)])
        for number in range(len(info.slot_ids))
    ]
    return max(abs(rank.wait()) for rank in ranks)


def train(local_rank: int) -> None:
    """Train as one rank, from the newest checkpoint on, until done or asked to leave."""
    local_size, nodes = len(info.slot_ids), len(info.container_addrs)
    distributed = core.DistributedContext(
        rank=info.container_rank * local_size + local_rank,
        size=nodes * local_size,
        local_rank=local_rank,
        local_size=local_size,
        cross_rank=info.container_rank,
        cross_size=nodes,
        chief_ip=info.container_addrs[0],
        port_offset=int(os.environ["DTRAIN_SSH_PORT"]) - 12350,
    )
    hparams = info.trial.hparams
    numbers = random.Random(distributed.rank)
    points = [(x, 3 * x + 1 + numbers.gauss(0, 0.1)) for x in (numbers.random() for _ in range(99))]
    manual = core.TensorboardMode.MANUAL  # or PyTorch or TensorFlow would have to be there
    with core.init(distributed=distributed, tensorboard_mode=manual) as context:
        step, slope, offset = load(context)
        if distributed.rank == 0:
            print(f"{distributed.size} ranks on {nodes} nodes begin after step {step}", flush=True)
        while step < hparams["steps"]:
            errors = [(slope * x + offset - y, x) for x, y in points]
            means = [sum(e * x for e, x in errors) / 99, sum(e for e, _ in errors) / 99]
            gradients = distributed.allgather(means)
            slope -= hparams["rate"] * sum(one[0] for one in gradients) / distributed.size
            offset -= hparams["rate"] * sum(one[1] for one in gradients) / distributed.size
            step += 1
            time.sleep(hparams["pause"])
            if distributed.rank == 0:
                loss = sum(e * e for e, _ in errors) / 99
                context.train.report_training_metrics(step, {"loss": loss})
            leaves = context.preempt.should_preempt()
            if leaves or step == hparams["steps"]:
                save(context, distributed, (step, slope, offset))
            if leaves:
                return


def load(context: core.Context) -> tuple[int, float, float]:
    """Load the newest checkpoint, if there is one."""
    if info.latest_checkpoint is None:
        return 0, 0.0, 0.0
    with context.checkpoint.restore_path(info.latest_checkpoint) as path:
        step, slope, offset = (path / "line").read_text().split()
        return int(step), float(slope), float(offset)


def save(
    context: core.Context,
    distributed: core.DistributedContext,
    state: tuple[int, float, float],
) -> None:
    """Report how good the line is, and save it; all ranks wait until that is done."""
    step, slope, offset = state
    if distributed.rank == 0:
        error = abs(slope - 3) + abs(offset - 1)
        context.train.report_validation_metrics(step, {"error": error})
        with context.checkpoint.store_path({"steps_completed": step}) as (path, _):
            pathlib.Path(path, "line").write_text(f"{step} {slope} {offset}")
        print(f"after step {step} the line is {slope:.2f} x + {offset:.2f}", flush=True)
    distributed.allgather(None)


if len(sys.argv) > 1:
    train(int(sys.argv[1]))
else:
    sys.exit(start_ranks())
