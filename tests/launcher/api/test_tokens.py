"""Tokens of a launcher that runs: their files, users' own, expiry, revocation and rotation."""

from __future__ import annotations

import grp
import json
import os
import pwd
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from shipway_common.settings import SettingsError
from shipway_launcher.commands.token import token as token_command
from shipway_launcher.config import load_settings
from shipway_launcher.errors import SetupError
from shipway_launcher.tokens import load_or_make_token
from tests.lab.folders import new_folder
from tests.lab.processes import run, wait_until
from tests.lab.shipway import Launcher, program
from tests.launcher.api.bare import make_launcher
from tests.launcher.api.rest import Rest
from tests.launcher.manifests import make_manifest, make_query


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """A launcher on a machine without Slurm."""
    folder = new_folder("tokens")
    daemon = make_launcher(folder)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(folder)


@pytest.fixture
def tokens(launcher: Launcher) -> Callable[..., str]:
    """Run `shipway-launcher token`, and return what it prints."""

    def call(*words: str, **environment: str) -> str:
        argv = [*words, "--config", str(launcher.config)]
        result = CliRunner().invoke(token_command, argv, env=environment)
        assert result.exit_code == 0, result.output
        return result.stdout.strip()

    return call


def wait_for_status(rest: Rest, token: str, status: int) -> None:
    """Wait until a token is taken, or is not."""
    wait_until(
        lambda: rest("GET", "/running", token=token).status == status,
        f"a token is answered with {status}",
        limit_s=60,
    )


def test_the_administrators_token_is_as_the_master_reads_it(launcher: Launcher, rest: Rest) -> None:
    content = launcher.token_file.read_bytes()
    assert len(content) >= 32
    assert content.isascii()
    assert content.decode().isprintable()
    assert b" " not in content
    assert launcher.token_file.stat().st_mode & 0o777 == 0o600
    assert rest("GET", "/running").status == 200
    kept = (launcher.config.parent / "launcher/tokens.json").read_bytes()
    assert content not in kept, "only its digest"
    assert content.decode() not in launcher.log.read_text()


def test_a_restart_keeps_tokens(launcher: Launcher, rest: Rest, tokens: Callable[..., str]) -> None:
    user_token = tokens("create", "--user", "alice")
    before = launcher.token_file.read_bytes()
    launcher.stop()
    launcher.start()
    assert launcher.token_file.read_bytes() == before
    assert rest("GET", "/running").status == 200
    assert rest("GET", "/running", token=user_token).status == 200


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (b"secret\n", 0o600, "without a line end"),
        (b"", 0o600, "must hold the token alone"),
        (b"two words", 0o600, "must hold the token alone"),
        (b"\xff\xfe", 0o600, "must hold the token alone"),
        (b"secret", 0o644, "mode 0644"),
        (b"secret", 0o660, "mode 0660"),
    ],
)
def test_a_token_file_that_would_not_do_is_not_used(
    tmp_path: Path, content: bytes, mode: int, words: str
) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    file.chmod(mode)
    with pytest.raises(SetupError, match=words):
        load_or_make_token(file)
    assert file.read_bytes() == content


def test_a_launcher_does_not_start_with_such_a_file(tmp_path: Path) -> None:
    daemon = make_launcher(tmp_path)
    daemon.token_file.write_text("secret\n")
    daemon.token_file.chmod(0o600)
    result = run([program("shipway-launcher"), "serve", "--config", daemon.config], check=False)
    assert result.returncode != 0
    assert str(daemon.token_file) in result.stderr
    assert "without a line end" in result.stderr


def test_a_group_may_read_the_token_of_a_master_that_is_not_root(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getgid()).gr_name
    daemon = make_launcher(tmp_path, auth_file_group=group)
    daemon.start()
    try:
        status = daemon.token_file.stat()
        assert (status.st_mode & 0o777, status.st_gid) == (0o640, os.getgid())
    finally:
        daemon.stop()


def test_a_users_token_works_at_once_and_until_it_is_revoked(
    rest: Rest, tokens: Callable[..., str]
) -> None:
    token = tokens("create", "--user", "alice")
    assert rest("GET", "/running/alice", token=token).status == 200
    assert rest("GET", "/running/bob", token=token).status == 403
    assert token not in tokens("list") + tokens("list", "--json")
    newest = json.loads(tokens("list", "--json"))[-1]
    assert (newest["user"], newest["for"], newest["expires"]) == ("alice", "own", None)
    tokens("revoke", newest["id"])
    wait_for_status(rest, token, 401)
    assert "revoked" in rest("GET", "/running", token=token).detail


def test_a_token_expires(rest: Rest, tokens: Callable[..., str]) -> None:
    token = tokens("create", "--user", "alice", "--days", "0.00001")  # under a second
    wait_for_status(rest, token, 401)
    answer = rest("GET", "/running", token=token)
    assert "expired" in answer.detail
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "words",
    [
        ["create"],
        ["create", "--user", "a/b"],
        ["create", "--user", "x", "--days", "0"],
        ["revoke", "none"],
        ["rotate", "--grace-h", "-1"],
    ],
    ids=range(5),
)
def test_wrong_words(launcher: Launcher, words: list[str]) -> None:
    result = CliRunner().invoke(token_command, [*words, "--config", str(launcher.config)])
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit), "and no traceback"
    assert "Error: " in result.output


def test_the_token_in_auth_file_is_not_revoked_but_replaced(
    launcher: Launcher, tokens: Callable[..., str]
) -> None:
    (entry,) = [one for one in json.loads(tokens("list", "--json")) if "auth_file" in one["for"]]
    argv = ["revoke", entry["id"], "--config", str(launcher.config)]
    result = CliRunner().invoke(token_command, argv)
    assert result.exit_code != 0
    assert "token rotate" in result.output


def test_rotation_without_a_break(
    launcher: Launcher, rest: Rest, tokens: Callable[..., str]
) -> None:
    """The master goes on with its token, and reads auth_file again after the one refusal."""
    old = launcher.token_file.read_text()
    tokens("rotate")
    new = launcher.token_file.read_text()
    assert new != old
    assert launcher.token_file.stat().st_mode & 0o777 == 0o600
    for token in (new, old):
        for path in ("/running", "/terminated", "/admin/log-level"):
            assert rest("GET", path, token=token).status == 200
        # There is no Slurm to launch anything; what matters is that it is not 401.
        assert rest("PUT", "/launch?impersonate=", make_manifest(), token=token).status == 500
        assert rest("PUT", "/launch?impersonate=", make_query("Queues"), token=token).status == 500
    ask = ("PUT", "/launch?impersonate=", make_query("Resources"))
    refused = rest(*ask, token=old)
    assert refused.status == 401
    assert "auth_file" in refused.detail
    assert rest(*ask, token=old).status == 500, "no second time within minutes"
    assert rest(*ask, token=new).status == 500
    launcher.stop()
    launcher.start()
    assert rest("GET", "/running", token=old).status == 200, "also after a restart"
    rest.token = new


def test_rotation_at_once(launcher: Launcher, rest: Rest, tokens: Callable[..., str]) -> None:
    old = launcher.token_file.read_text()
    tokens("rotate", "--grace-h", "0")
    rest.token = launcher.token_file.read_text()
    wait_for_status(rest, old, 401)
    assert rest("GET", "/running").status == 200


def test_a_token_that_somebody_writes_into_auth_file_counts(launcher: Launcher, rest: Rest) -> None:
    old = rest.token
    fresh = launcher.token_file.with_suffix(".new")
    fresh.write_text("written-by-configuration-management")
    fresh.chmod(0o600)
    fresh.replace(launcher.token_file)
    rest.token = "written-by-configuration-management"
    wait_for_status(rest, rest.token, 200)
    assert rest("GET", "/running", token=old).status == 200


def test_a_token_file_that_is_spoiled_later_changes_nothing(launcher: Launcher, rest: Rest) -> None:
    good = launcher.token_file.read_text()
    launcher.token_file.write_text("two words\n")
    try:
        assert rest("GET", "/running", token="two").status == 401
        assert rest("GET", "/running", token=good).status == 200
    finally:
        launcher.token_file.write_text(good)
    book = launcher.config.parent / "launcher/tokens.json"
    kept = book.read_bytes()
    book.write_bytes(b"{")
    try:
        assert rest("GET", "/running", token="unknown").status == 401
        assert rest("GET", "/running", token=good).status == 200
    finally:
        book.write_bytes(kept)
    assert "Traceback" not in launcher.tail()


def test_users_make_themselves_tokens_for_reading(
    launcher: Launcher, rest: Rest, tokens: Callable[..., str]
) -> None:
    token = tokens("mine", SUDO_UID=str(pwd.getpwnam("nobody").pw_uid))
    assert rest("GET", "/running/nobody", token=token).status == 200
    assert rest("DELETE", "/running/nobody", token=token).status == 403
    newest = json.loads(tokens("list", "--json"))[-1]
    assert (newest["user"], newest["for"]) == ("nobody", "own, reading only")
    expires = datetime.fromisoformat(newest["expires"])
    assert abs(expires - datetime.now(UTC) - timedelta(days=30)) < timedelta(hours=1)
    argv = ["mine", "--config", str(launcher.config)]
    without = CliRunner().invoke(token_command, argv, env={"SUDO_UID": None})
    assert without.exit_code != 0
    assert "sudo" in without.output


def test_without_tokens_everybody_may(tmp_path: Path) -> None:
    daemon = make_launcher(tmp_path, require_token=False)
    daemon.start()
    try:
        rest = Rest(daemon.url, "")
        for value in ("Bearer ", "Bearer x", "Basic x", ""):
            assert rest("GET", "/running", headers={"Authorization": value}).status == 200
    finally:
        daemon.stop()
    with pytest.raises(SettingsError, match="loopback"):
        load_settings(flags={"require_token": False, "host": "0.0.0.0"})


def test_what_the_launcher_is_is_for_everybody(rest: Rest) -> None:
    for name in ("version/server", "version/api", "version/revision", "api"):
        for value in ("", "Bearer", "Bearer nonsense", "Basic eDp5"):
            assert rest("GET", f"/info/{name}", headers={"Authorization": value}).status == 200
    assert rest("GET", "/info/version/server").body == b"3.3.7"
