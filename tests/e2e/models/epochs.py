"""Train one trial of a search: each epoch takes a moment, and the smaller x, the better it gets."""

from __future__ import annotations

import time

import determined as det

EPOCHS = (1, 4, 16)
EPOCH_S = 0.05


def main() -> None:
    """Validate after some epochs, and leave as soon as the searcher has seen enough."""
    info = det.get_cluster_info()
    assert info is not None
    x = info.trial.hparams["x"]
    done = 0
    with det.core.init(tensorboard_mode=det.core.TensorboardMode.MANUAL) as context:
        for epoch in range(1, EPOCHS[-1] + 1):
            if context.preempt.should_preempt():
                break
            time.sleep(EPOCH_S)
            done = epoch
            if epoch in EPOCHS:
                metrics = {"val": x + 1 / epoch, "epochs": epoch}
                context.train.report_validation_metrics(epoch, metrics)
    print(f"x {x:.3f}: {done} epochs", flush=True)


if __name__ == "__main__":
    main()
