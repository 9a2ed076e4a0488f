"""The far end of an SSH link: does on the login node what `LocalTransport` does here.

It is sent as source text when a link is made, and runs as the user who was logged in, on any Python
from 3.11 on; nothing is installed. It speaks `frames` on the standard input and output that it was
started with. It ends, with all that it has started, when its input ends, when it hears nothing for
too long (the link may be dead while looking alive), and when its successor asks it to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import shutil
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from shipway_launcher.errors import CommandTimedOut, TransportError
from shipway_launcher.openfiles import allow_many_connections
from shipway_launcher.transport.base import Command
from shipway_launcher.transport.frames import (
    BEAT,
    CANCEL,
    Assembly,
    FrameReader,
    Message,
    encode_frame,
    encode_message,
)
from shipway_launcher.transport.local import LocalTransport
from shipway_launcher.transport.tree import make_root
from shipway_launcher.transport.wire import unpack

log = logging.getLogger(__name__)

_BLOCK = 1 << 16
_PREDECESSOR_S = 6.0

Answer = tuple[dict[str, Any], bytes]


class FarEnd:
    """Answers calls until nobody is there any more."""

    def __init__(self, mark: bytes, writer: asyncio.StreamWriter, *, silence_s: float) -> None:
        """Prepare.

        Args:
            mark: Begins each frame.
            writer: To the near end.
            silence_s: After so long without a byte from there, in seconds, it is gone.
        """
        self._mark, self._writer, self._silence_s = mark, writer, silence_s
        self._own = LocalTransport(pwd.getpwuid(os.geteuid()).pw_name, {})
        self._sending = asyncio.Lock()
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._splices: list[asyncio.Server] = []
        self._task: asyncio.Task[Any] | None = None
        self._is_ending = False

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Serve to the end of the input, or until there has been silence for too long."""
        task = asyncio.current_task()
        assert task is not None, "runs in a task"
        self._task = task
        async with asyncio.TaskGroup() as group:
            beats = group.create_task(self._beat())
            try:
                await self._send(Message(call=0, head=_describe_this_machine()))
                await self._take_calls(reader, group)
            except (ConnectionError, TimeoutError):
                pass
            finally:
                self._is_ending = True
                for task in (beats, *self._calls.values()):
                    task.cancel()
                for server in self._splices:
                    server.close()

    def stop(self) -> None:
        """End, with all that was started; to ask again does not interrupt that."""
        if not self._is_ending and self._task is not None:
            self._is_ending = True
            self._task.cancel()

    async def _take_calls(self, reader: asyncio.StreamReader, group: asyncio.TaskGroup) -> None:
        frames, assembly = FrameReader(self._mark), Assembly()
        while data := await self._read(reader):
            for frame in frames.feed(data):
                if frame.kind == CANCEL:
                    assembly.drop(frame.call)
                    if task := self._calls.get(frame.call):
                        task.cancel()
                elif message := assembly.add(frame):
                    task = group.create_task(self._serve_call(message))
                    self._calls[message.call] = task

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        async with asyncio.timeout(self._silence_s):
            return await reader.read(_BLOCK)

    async def _serve_call(self, message: Message) -> None:
        try:
            head, body = await self._answer(message.head, message.body)
        except asyncio.CancelledError:
            if self._is_ending:
                raise
            head, body = {"error": "cancelled", "text": ""}, b""
        except CommandTimedOut as error:
            head, body = {"error": "timed out", "text": str(error)}, b""
        except (TransportError, OSError) as error:
            head, body = {"error": "transport", "text": str(error)}, b""
        except Exception:  # a mistake of ours must not look like silence
            log.exception("a call failed")
            head, body = {"error": "fault", "text": traceback.format_exc()[-2000:]}, b""
        finally:
            self._calls.pop(message.call, None)
        with contextlib.suppress(ConnectionError):
            await self._send(Message(call=message.call, head=head, body=body))

    async def _answer(self, head: dict[str, Any], body: bytes) -> Answer:
        own = self._own
        path = Path(head.get("path", "/"))
        match head["do"]:
            case "run":
                return await self._run(head, body)
            case "install":
                await own.install(path, await asyncio.to_thread(unpack, body))
            case "size":
                return {"size": await own.size(path)}, b""
            case "status":
                found = await own.status(path)
                return {"found": found and (found.size, found.modified_at)}, b""
            case "erase":
                await own.erase(path)
            case "read":
                return {}, await own.read(path, offset=head["offset"], limit=head["limit"])
            case "remove":
                await own.remove(path)
            case "find":
                found_at = await asyncio.to_thread(shutil.which, head["name"], path=head["in"])
                return {"found": found_at}, b""
            case "account":
                return {"account": await asyncio.to_thread(_describe_account, head["user"])}, b""
            case "prepare":
                jobs = Path(head["jobs"])
                await asyncio.to_thread(make_root, path, jobs, is_shared=head["shared"])
            case "replace":
                return {"ended": await _end_predecessor(head)}, b""
            case "splice":
                await self._splice(head["host"], head["port"], head["to"])
            case other:
                raise TransportError(f"the far end cannot {other}")
        return {}, b""

    async def _run(self, head: dict[str, Any], body: bytes) -> Answer:
        command = Command(
            argv=tuple(head["argv"]),
            timeout_s=head["timeout_s"],
            environment=head["environment"],
            stdin=body,
            output_limit_bytes=head["output_limit_bytes"],
        )
        done = await self._own.run(command)
        answer = {"exit_status": done.exit_status, "stdout_bytes": len(done.stdout)}
        return answer, done.stdout + done.stderr

    async def _splice(self, host: str, port: int, to: int) -> None:
        """Listen, and pass each connection on to a port of this machine's own."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer), contextlib.suppress(OSError):
                beyond, back = await asyncio.open_connection("127.0.0.1", to)
                with contextlib.closing(back):
                    async with asyncio.TaskGroup() as group:
                        group.create_task(_pump(reader, back))
                        group.create_task(_pump(beyond, writer))

        allow_many_connections()
        self._splices.append(await asyncio.start_server(serve, host, port, backlog=1024))

    async def _send(self, message: Message) -> None:
        for piece in encode_message(self._mark, message):
            async with self._sending:
                self._writer.write(piece)
                await self._writer.drain()

    async def _beat(self) -> None:
        with contextlib.suppress(ConnectionError):  # the end of the input follows
            while True:
                await asyncio.sleep(self._silence_s / 4)
                async with self._sending:
                    self._writer.write(encode_frame(self._mark, 0, BEAT))
                    await self._writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_BLOCK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def _describe_this_machine() -> dict[str, Any]:
    return {
        "account": _describe_account(pwd.getpwuid(os.geteuid()).pw_name),
        "path": os.environ.get("PATH", os.defpath),
        "slurm_conf": os.environ.get("SLURM_CONF"),
        "host": socket.gethostname(),
        "python": sys.version.split()[0],
        "process": {
            "pid": os.getpid(),
            "started": _started_at(os.getpid()),
            "boot": _boot_id(),
        },
    }


def _describe_account(user: str) -> dict[str, Any] | None:
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        return None
    return {
        "user": found.pw_name,
        "uid": found.pw_uid,
        "home": found.pw_dir,
        "shell": found.pw_shell,
    }


def _boot_id() -> str:
    """Name this start of this machine; containers that share a kernel differ by their host name."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{socket.gethostname()}"


def _started_at(pid: int) -> str | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


async def _end_predecessor(process: dict[str, Any]) -> bool:
    """End the far end of the link that this one replaces, with what it still runs.

    Returns:
        Whether it is surely gone: False when it ran on another machine, or cannot be ended.
    """
    pid, started = int(process["pid"]), process["started"]
    if process["boot"] != _boot_id():
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        if _started_at(pid) != started:
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)
        deadline = time.monotonic() + _PREDECESSOR_S
        while _started_at(pid) == started and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # no child of ours: nobody tells us
    return _started_at(pid) != str(started)


async def _main(mark: bytes, silence_s: float) -> None:
    loop = asyncio.get_running_loop()
    inward, outward = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # nobody else is to write where the frames go
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(inward, "rb")
    )
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(outward, "wb")
    )
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    far = FarEnd(mark, writer, silence_s=silence_s)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, far.stop)
    try:
        await far.serve(reader)
    except Exception:  # noqa: BLE001 (it reaches the near end as the last words)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)  # a thread may be stuck in a file system that does not answer


def main(mark: str, silence_s: float) -> None:
    """Serve the link that this process was started for; does not return."""
    asyncio.run(_main(bytes.fromhex(mark), silence_s))
