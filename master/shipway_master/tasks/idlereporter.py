"""Tells the master whether a notebook is in use. Runs in the task, beside Jupyter.

Whatever Python the image has runs it (3.8 or newer), and nothing but its standard library is there.
It ends with the process that started it, which has become Jupyter.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

_ANSWER_LIMIT_S = 10
_TICK_S = 0.5
_NOT_VERIFIED = "noverify"


class NamedContext(ssl.SSLContext):
    """Expects a name in the certificate that is not the host of the URL."""

    name = ""

    def wrap_socket(self, sock: Any, *args: Any, **options: Any) -> Any:
        """Wrap a socket, for that name."""
        return super().wrap_socket(sock, *args, **{**options, "server_hostname": self.name})


class Activity:
    """Whether Jupyter is in use, by the rule that the notebook's configuration names."""

    def __init__(self, idle_type: str) -> None:
        self._idle_type = idle_type
        self._last_seen: Any = None

    def is_idle(self, kernels: Any, terminals: Any) -> bool:
        """Judge by what Jupyter says of its kernels and terminals."""
        if self._idle_type == "kernel_connections":
            return all(kernel["connections"] == 0 for kernel in kernels)
        if self._idle_type == "activity":
            seen = sorted(str(one.get("last_activity")) for one in [*kernels, *terminals])
            is_same = seen == self._last_seen
            self._last_seen = seen
            return is_same and all(kernel["execution_state"] != "busy" for kernel in kernels)
        return not kernels and not terminals


def ask_jupyter(environment: Mapping[str, str], what: str) -> Any:
    """Ask for Jupyter's kernels or terminals; without its terminals there are none."""
    base = f"/proxy/{environment['DET_TASK_ID']}/api/{what}"
    request = urllib.request.Request(
        f"http://127.0.0.1:{environment['NOTEBOOK_PORT']}{base}",
        headers={"Authorization": f"token {environment['JUPYTER_TOKEN']}"},
    )
    # Not through the proxy that the user's environment may name.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_ANSWER_LIMIT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if what == "terminals" and error.code == 404:
            return []
        raise


def tell_master(environment: Mapping[str, str], is_idle: bool) -> None:
    """Send a report."""
    task_id = environment["DET_TASK_ID"]
    request = urllib.request.Request(  # noqa: S310 (the master says what its URL is)
        f"{environment['DET_MASTER'].rstrip('/')}/api/v1/notebooks/{task_id}/report_idle",
        method="PUT",
        data=json.dumps({"notebookId": task_id, "idle": is_idle}).encode(),
        headers={
            "Authorization": f"Bearer {environment['DET_SESSION_TOKEN']}",
            "Content-Type": "application/json",
        },
    )
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust(environment))
    )
    with opener.open(request, timeout=_ANSWER_LIMIT_S):
        pass


def trust(environment: Mapping[str, str]) -> ssl.SSLContext:
    """Make the TLS context for the master that the task's variables describe."""
    context = NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    file = environment.get("DET_MASTER_CERT_FILE", "")
    if file == _NOT_VERIFIED:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif file:
        context.load_verify_locations(file)
    else:
        context.load_default_certs()
    host = environment["DET_MASTER"].partition("://")[2].rstrip("/").rpartition(":")[0]
    context.name = environment.get("DET_MASTER_CERT_NAME") or host.strip("[]")
    return context


def main() -> None:
    """Report until whoever started this is gone."""
    environment, parent = os.environ, os.getppid()
    activity = Activity(environment["NOTEBOOK_IDLE_TYPE"])
    interval_s = float(environment["NOTEBOOK_REPORT_EVERY_S"])
    has_worked, told, due_at = False, "", 0.0
    while os.getppid() == parent:
        if time.monotonic() >= due_at:
            due_at = time.monotonic() + interval_s
            trouble = ""
            try:
                kernels = ask_jupyter(environment, "kernels")
                is_idle = activity.is_idle(kernels, ask_jupyter(environment, "terminals"))
                has_worked = True
                tell_master(environment, is_idle)
            except (OSError, ValueError, KeyError, TypeError) as error:
                # Until Jupyter answers for the first time, it starts: that is no trouble.
                trouble = repr(error) if has_worked else ""
            if trouble != told:
                sys.stderr.write(f"report of the notebook's use: {trouble or 'works again'}\n")
                told = trouble
        time.sleep(_TICK_S)


if __name__ == "__main__":
    main()
