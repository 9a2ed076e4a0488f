"""Task of the tests: two ranks a node gather each other's data and print what each of them got."""

# ruff: noqa: T201 (what it prints is what the tests read)

import json
import os
import ssl
import subprocess
import sys
import urllib.request
import uuid

RANKS_PER_NODE = 2


def all_gather(rank: int, world: int) -> list[dict[str, object]]:
    """Send this rank's data and return what came back, in the order in which it came."""
    allocation = os.environ["DET_ALLOCATION_ID"]
    body = {
        "allocationId": allocation,
        "requestUuid": str(uuid.uuid4()),
        "numPeers": world,
        "data": {"rank": rank, "node": os.environ["SLURMD_NODENAME"], "bytes": "é\n" * rank},
    }
    request = urllib.request.Request(
        f"{os.environ['DET_MASTER']}/api/v1/allocations/{allocation}/all_gather",
        data=json.dumps(body).encode(),
        headers={"Grpc-Metadata-x-allocation-token": f"Bearer {os.environ['DET_SESSION_TOKEN']}"},
    )
    trust = None
    if request.type == "https":
        trust = ssl.create_default_context(cafile=os.environ.get("DET_MASTER_CERT_FILE"))
    with urllib.request.urlopen(request, timeout=90, context=trust) as answer:
        data: list[dict[str, object]] = json.load(answer)["data"]
    return data


if len(sys.argv) == 1:
    node, nodes = int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NPROCS"])
    first = node * RANKS_PER_NODE
    # The higher rank first: the order in the answer must not come from the order of arrival.
    children = [
        subprocess.Popen([sys.executable, __file__, str(rank), str(nodes * RANKS_PER_NODE)])
        for rank in reversed(range(first, first + RANKS_PER_NODE))
    ]
    sys.exit(max(child.wait() for child in children))

print("gathered", json.dumps({"by": int(sys.argv[1]), "data": all_gather(*map(int, sys.argv[1:]))}))
