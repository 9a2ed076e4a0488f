"""Manifests: what is missing is named, what is there arrives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shipway_launcher.carriers.table import Purpose, choose_carrier
from shipway_launcher.environment import point_to_relay, restore_cut_values
from shipway_launcher.errors import WrongRequest
from shipway_launcher.manifest import Resources, parse_json, parse_manifest
from shipway_launcher.redact import redact_manifest
from tests.launcher.manifests import SLURM, make_manifest, make_query


def test_a_job_is_read() -> None:
    manifest = parse_manifest(
        make_manifest(
            ["a", "b"],
            image="org/name:tag",
            slurm_arguments=None,
            data=[{"name": "ds0", "source": "/a", "target": "/b", "readOnly": True}],
            resources={"instances": {"nodes": 2}, "cores": {"per-node": 1.5}},
        )
    )
    assert manifest.client == "det"
    assert manifest.arguments == ("a", "b")
    assert manifest.image == "org/name:tag"
    assert manifest.slurm_arguments == ()
    assert manifest.mounts[0].read_only
    assert manifest.resources == Resources(nodes=2, cores_per_node=2)


def test_a_query_needs_no_more_than_the_master_sends() -> None:
    manifest = parse_manifest(make_query("Resources"))
    assert choose_carrier(manifest.carriers).purpose is Purpose.RESOURCES


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (("manifestVersion",), "manifestVersion"),
        (("clientMetadata",), "clientMetadata"),
        (("clientMetadata", "name"), "clientMetadata.name"),
        (("payloads",), "payloads"),
        (("payloads", 0, "name"), "payloads.0.name"),
        (("payloads", 0, "carriers"), "payloads.0.carriers"),
        (("payloads", 0, "launchParameters"), "payloads.0.launchParameters"),
    ],
)
def test_a_missing_key_is_named(path: tuple[Any, ...], named: str) -> None:
    manifest: Any = make_manifest()
    *above, key = path
    place = manifest
    for part in above:
        place = place[part]
    del place[key]
    with pytest.raises(WrongRequest, match=f"{named}: Field required"):
        parse_manifest(manifest)


def test_bytes_that_are_no_utf8_are_kept_and_half_characters_refused() -> None:
    text = json.dumps(make_manifest(["\udcff", "\U0001f600"]))
    assert parse_manifest(parse_json(text.encode())).arguments == ("\udcff", "\U0001f600")
    with pytest.raises(WrongRequest, match=r"half of a character: '\\ud800'"):
        parse_json(json.dumps(make_manifest(["\ud800"])).encode())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"environment": {"A": 1}}, "environment.A"),
        ({"environment": {"A=B": "x"}}, "no name of a variable"),
        ({"environment": {"": "x"}}, "no name of a variable"),
        ({"environment": {"A": "x\0y"}}, "NUL"),
        ({"environment": {"LONG": "x" * 140000}}, "LONG has 140004 bytes"),
        ({"arguments": ["a\0"]}, "NUL"),
        ({"arguments": ["a", "b" * 140_000]}, "has 140000 bytes; Linux starts no program"),
        ({"data": [{"source": "/a\n", "target": "/b"}]}, "no path to mount"),
        ({"data": [{"source": "/a"}]}, "data.0.target"),
        ({"resources": {"instances": {"nodes": 0}}}, "instances.nodes: 0 cannot be"),
        ({"resources": {"instances": {"nodes": "2"}}}, "instances.nodes"),
        ({"resources": {"gpus": {"total": -1}}}, "gpus.total"),
    ],
)
def test_a_wrong_value_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(WrongRequest, match=named):
        parse_manifest(make_manifest(**changes))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"nonsense", b"\xff", b"[" * 100000])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(WrongRequest, match="manifest"):
        parse_json(body)


def test_bytes_that_are_no_utf8_are_kept() -> None:
    body = json.dumps(make_manifest(environment={"BAD": "@@"})).encode().replace(b"@@", b"\xff\xfe")
    value = parse_manifest(parse_json(body)).environment["BAD"]
    assert value.encode("utf-8", "surrogateescape") == b"\xff\xfe"


@pytest.mark.parametrize(
    ("carriers", "runtime"),
    [
        (["SingularityOverSlurm"], "apptainer"),
        (["PodmanOverSlurm"], "podman"),
        (["EnrootOverSlurm"], "enroot"),
        (["SandboxOverSlurm"], "sandbox"),
        (["Unheard", "PodmanOverSlurm"], "podman"),
    ],
)
def test_carriers(carriers: list[str], runtime: str) -> None:
    assert choose_carrier([SLURM + name for name in carriers]).runtime == runtime


@pytest.mark.parametrize(
    ("carrier", "text"),
    [
        (SLURM.replace("slurm", "pbs") + "SingularityOverPbs", "not PBS"),
        ("com.example.Other", "none of com.example.Other is known"),
    ],
)
def test_a_carrier_that_cannot_be_is_refused_clearly(carrier: str, text: str) -> None:
    with pytest.raises(WrongRequest, match=text):
        choose_carrier([carrier])


@pytest.mark.parametrize("source", ["DET_EXPERIMENT_CONFIG", "NOTEBOOK_CONFIG"])
@pytest.mark.parametrize("by_kind", [True, False])
def test_values_that_the_master_cut_at_the_second_equals_sign_are_restored(
    source: str, by_kind: bool
) -> None:
    texts = ["URL=http://x/?a=b&c=d", "PLAIN=1", "OTHER=b=c", "NAME"]
    variables: Any = {"cpu": texts, "cuda": []} if by_kind else texts
    config = json.dumps({"environment": {"environment_variables": variables}})
    environment = {
        "DET_SLOT_TYPE": "cpu",
        source: config,
        "URL": "http://x/?a",
        "PLAIN": "1",
        "OTHER": "set by the master",
        "NAME": "",
    }
    restored = restore_cut_values(environment)
    assert restored["URL"] == "http://x/?a=b&c=d"
    assert {name: restored[name] for name in ("PLAIN", "OTHER", "NAME")} == {
        "PLAIN": "1",
        "OTHER": "set by the master",
        "NAME": "",
    }


@pytest.mark.parametrize("config", ["", "no json", "[]", "{}", '{"environment": 1}', "null"])
def test_a_configuration_that_says_nothing_changes_nothing(config: str) -> None:
    environment = {"DET_EXPERIMENT_CONFIG": config, "A": "b"}
    assert restore_cut_values(environment) == environment


def test_a_job_is_pointed_to_the_relay() -> None:
    environment = {
        "DET_MASTER": "https://master:8443",
        "DET_MASTER_HOST": "master",
        "DET_USE_TLS": "true",
        "DET_MASTER_CERT_FILE": "/run/determined/etc/ssl/master.crt",
        "DET_MASTER_CERT_NAME": "master",
        "A": "b",
    }
    assert point_to_relay(environment, "http://login1:8183") == {
        "DET_MASTER": "http://login1:8183",
        "DET_MASTER_HOST": "login1",
        "DET_MASTER_IP": "login1",
        "DET_MASTER_PORT": "8183",
        "DET_USE_TLS": "false",
        "A": "b",
    }
    assert point_to_relay({}, "http://[::1]:8183")["DET_MASTER_HOST"] == "::1"


def test_secrets_and_archives_are_not_shown_again() -> None:
    manifest = make_manifest(
        environment={"MY_PASSWORD": "p-4711", "EMPTY_TOKEN": "", "PATH_LIKE": "kept"},
        archives=["a-4711"],
    )
    shown = redact_manifest(manifest)
    for secret in (b"4711", b"v2.public"):
        assert secret not in shown
    read = json.loads(shown)["payloads"][0]["launchParameters"]
    assert read["environment"]["PATH_LIKE"] == "kept"
    assert read["environment"]["EMPTY_TOKEN"] == ""
    assert manifest["payloads"][0]["launchParameters"]["custom"]["Archives"] == ["a-4711"]
