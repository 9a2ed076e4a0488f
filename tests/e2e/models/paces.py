"""Trains in one process, and goes wrong where its hyperparameters say so.

Each step reports a metric; each second one is validated and makes a checkpoint, from which the next
run goes on. The files named as its `gated` steps in the folder `gates` let it pass those; -1 is its end.
"""

import os
import pathlib
import sys
import time

import determined as det
from determined import core

info = det.get_cluster_info()
assert info is not None
assert info.trial is not None
hparams = info.trial.hparams


def load(context: core.Context) -> int:
    """Return the steps that the checkpoint holds with which this run begins."""
    if info.latest_checkpoint is None:
        return 0
    with context.checkpoint.restore_path(info.latest_checkpoint) as path:
        return int((path / "step").read_text())


def wait_at_gate(step: int) -> None:
    """Wait for the file that lets this step pass, if it has to."""
    while (
        step in hparams.get("gated", ()) and not pathlib.Path(hparams["gates"], str(step)).exists()
    ):
        time.sleep(0.05)


def main(context: core.Context) -> None:
    """Train."""
    step = load(context)
    print(f"begins after step {step}, hooked by {os.environ.get('HOOKED')}", flush=True)
    if hparams.get("invalid"):
        context.train.report_early_exit(core.EarlyExitReason.INVALID_HP)
        sys.exit(1)
    while step < int(hparams["steps"]):
        step += 1
        wait_at_gate(step)
        context.train.report_training_metrics(steps_completed=step, metrics={"loss": 1 / step})
        if step == hparams.get("crash_at") and info.trial._trial_run_id == 1:
            sys.exit(f"crashes at step {step}")
        if step % 2 == 0:
            metrics = {"val": hparams.get("x", 1) / step, "batches": step}
            with context.checkpoint.store_path({"steps_completed": step}) as (path, _):
                (path / "step").write_text(str(step))
            context.train.report_validation_metrics(steps_completed=step, metrics=metrics)
            context.train.report_progress(step / int(hparams["steps"]))
        if context.preempt.should_preempt():
            print(f"leaves after step {step}", flush=True)
            return
    wait_at_gate(-1)


with core.init(tensorboard_mode=core.TensorboardMode.MANUAL) as core_context:
    if hparams.get("profiled"):
        core_context.profiler.on(sampling_interval=1, samples_per_report=1)
    main(core_context)
