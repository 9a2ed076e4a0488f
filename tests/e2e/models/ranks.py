"""Trains in plain processes, one for each slot of each container, as any distributed training would.

Each step reports a metric and, in the first run, takes `pause` seconds; a pre-emption makes a checkpoint of
the step, from which the next run goes on.
"""

import os
import pathlib
import subprocess
import sys
import time

import determined as det
from determined import core

info = det.get_cluster_info()
assert info is not None
assert info.trial is not None


def main() -> None:
    """Start the ranks of this container, and end with the worst of their exit codes."""
    local_size, nodes = len(info.slot_ids), len(info.container_addrs)
    ranks = []
    for local_rank in range(local_size):
        place = f"{info.container_rank} {local_rank} {local_size} {nodes}"
        ranks.append(subprocess.Popen([sys.executable, __file__, *place.split()]))
    sys.exit(max(abs(rank.wait()) for rank in ranks))


def train(node: int, local_rank: int, local_size: int, nodes: int) -> None:
    """Train as one rank."""
    rank = node * local_size + local_rank
    distributed = core.DistributedContext(
        rank=rank,
        size=nodes * local_size,
        local_rank=local_rank,
        local_size=local_size,
        cross_rank=node,
        cross_size=nodes,
        chief_ip=info.container_addrs[0],
        port_offset=int(os.environ["DTRAIN_SSH_PORT"]) - 12350,
    )
    hparams = info.trial.hparams
    with core.init(
        distributed=distributed, tensorboard_mode=core.TensorboardMode.MANUAL
    ) as context:
        start, pause_s = 0, float(hparams["pause"])
        if info.latest_checkpoint is not None:
            with context.checkpoint.restore_path(info.latest_checkpoint) as path:
                start, pause_s = int((path / "step").read_text()), 0.0
        if rank == 0:
            print(f"{distributed.size} ranks begin after step {start}", flush=True)
        for step in range(start + 1, int(hparams["steps"]) + 1):
            time.sleep(pause_s)
            sums = distributed.allgather(rank)
            if rank == 0:
                metrics = {"loss": 1 / step, "ranks": len(sums)}
                context.train.report_training_metrics(steps_completed=step, metrics=metrics)
            leaves = context.preempt.should_preempt()
            if leaves or step == hparams["steps"]:
                save(context, distributed, step)
            if leaves:
                if rank == 0:
                    print(f"leaving after step {step}", flush=True)
                return


def save(context: core.Context, distributed: core.DistributedContext, step: int) -> None:
    """Validate, and make a checkpoint."""
    if distributed.rank == 0:
        context.train.report_validation_metrics(
            steps_completed=step, metrics={"val": 1 / step, "batches": step}
        )
        with context.checkpoint.store_path({"steps_completed": step}) as (path, _):
            pathlib.Path(path, "step").write_text(str(step))
    distributed.allgather(None)


if len(sys.argv) > 1:
    train(*map(int, sys.argv[1:]))
else:
    main()
