"""A server that speaks S3, and buckets in it: moto in a virtual environment of its own."""

from __future__ import annotations

import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from tests.lab.folders import new_folder, remove_folder
from tests.lab.processes import end, free_ports, run, tails, wait_until

PACKAGES = ("moto[s3]==5.2.5", "flask==3.1.3", "flask-cors==6.0.5")
ACCESS_KEY, SECRET_KEY = "lab-key", "lab-secret/+="
_REPOSITORY = Path(__file__).parents[2]


def program() -> Path:
    """Return where the server is, or would be: in .venv-s3 of the repository or $SHIPWAY_S3_VENV."""
    folder = Path(os.environ.get("SHIPWAY_S3_VENV") or _REPOSITORY / ".venv-s3")
    return folder / "bin/moto_server"


def missing() -> list[str]:
    """Return what this machine lacks for it."""
    return [] if program().exists() else [f"the S3 server {program()}"]


class S3:
    """A server on a port of its own; entered, it runs."""

    def __init__(self) -> None:
        self._folder = new_folder("s3")
        self._log = self._folder / "log"
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(program()), "-H", "127.0.0.1", "-p", self.url.rpartition(":")[2]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until(self._answers, "the S3 server", limit_s=30, logs=lambda: tails([self._log]))
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            end([self._process.pid])
            self._process.wait()
        remove_folder(self._folder)

    def make_bucket(self, name: str) -> dict[str, str]:
        """Make a bucket, and say how `checkpoint_storage` names it."""
        self.run_python("client.create_bucket(Bucket=sys.argv[1])", name)
        return {
            "type": "s3",
            "bucket": name,
            "endpoint_url": self.url,
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
        }

    def run_python(self, code: str, *arguments: str) -> str:
        """Run code that finds boto3's `client` of this server, and return what it prints."""
        script = (
            "import sys, boto3\n"
            f"client = boto3.client('s3', endpoint_url={self.url!r}, region_name='us-east-1', "
            f"aws_access_key_id={ACCESS_KEY!r}, aws_secret_access_key={SECRET_KEY!r})\n{code}"
        )
        python = program().with_name("python")
        return run([python, "-c", script, *arguments], limit_s=30).stdout

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=5):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
