"""Task of the tests: works until it is asked to make room, then writes down how far it came.

A later run goes on from there. `argv[1]` is the file of the progress, which outlives the task.
"""

# ruff: noqa: T201 (what it prints is what the tests read)

import json
import os
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

STEPS = 10_000  # more than any test waits for


def call(verb: str, path: str) -> Any:
    """Call the master about this allocation."""
    request = urllib.request.Request(
        f"{os.environ['DET_MASTER']}/api/v1/allocations/{os.environ['DET_ALLOCATION_ID']}/{path}",
        method=verb,
        headers={"Grpc-Metadata-x-allocation-token": f"Bearer {os.environ['DET_SESSION_TOKEN']}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


progress = Path(sys.argv[1])
is_chief = os.environ.get("SLURM_PROCID", "0") == "0"
start = int(progress.read_text()) if progress.exists() else 0
print(f"starting at step {start}", flush=True)
for step in range(start, STEPS):
    if is_chief and call("GET", "signals/preemption?timeout_seconds=0")["preempt"]:
        progress.write_text(str(step))
        print(f"leaving at step {step}", flush=True)
        call("POST", "signals/ack_preemption")
        break
    if not is_chief and progress.exists() and int(progress.read_text()) > start:
        break
    time.sleep(0.1)
