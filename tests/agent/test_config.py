from __future__ import annotations

import re
from pathlib import Path

import pytest

from shipway_agent._reference import REFERENCE
from shipway_agent.config import (
    AgentSettings,
    changed_settings,
    default_state_dir,
    list_options,
    list_retired,
    load_settings,
)
from shipway_common.settings import SettingsError

# Of Determined's agent 0.38.1, in the order of its documentation.
ORIGINAL = """
config_file log.level log.color master_host master_port agent_id resource_pool
container_master_host container_master_port slot_type visible_gpus artificial_slots
security.tls.enabled security.tls.skip_verify security.tls.master_cert
security.tls.master_cert_name security.tls.client_cert security.tls.client_key debug tls tls_cert
tls_key api_enabled bind_ip bind_port http_proxy https_proxy ftp_proxy no_proxy
agent_reconnect_attempts agent_reconnect_backoff container_runtime container_auto_remove_disabled
hooks.on_connection_lost fluent.image fluent.port fluent.container_name
"""


def load(
    file_text: str | None = None,
    *,
    flags: dict[str, str | None] | None = None,
    environ: dict[str, str] | None = None,
    needs_master: bool = False,
) -> tuple[AgentSettings, list[str]]:
    settings, warnings = load_settings(
        flags=flags or {},
        environ=environ or {},
        file_text=file_text,
        file_name="agent.yaml",
        host_name="this-host",
        is_root=True,
        needs_master=needs_master,
    )
    return settings, [str(warning) for warning in warnings]


def test_flags_win_over_variables_and_those_over_the_file() -> None:
    text = "master_host: file\nresource_pool: file\nagent_id: file\n"
    settings, _ = load(
        text,
        environ={"DET_RESOURCE_POOL": "variable", "DET_AGENT_ID": "variable"},
        flags={"agent_id": "flag", "resource_pool": None},
    )
    assert (settings.master_host, settings.resource_pool, settings.agent_id) == (
        "file",
        "variable",
        "flag",
    )


def test_an_empty_variable_counts_as_unset() -> None:
    assert load("agent_id: file", environ={"DET_AGENT_ID": ""})[0].agent_id == "file"


def test_nested_keys_have_flags_and_variables() -> None:
    settings, _ = load(
        "security: {tls: {master_cert_name: file}}",
        environ={"DET_SECURITY_TLS_ENABLED": "true"},
        flags={"security.tls.master_cert": "/x.pem"},
    )
    tls = settings.security.tls
    assert (tls.master_cert_name, tls.enabled, tls.master_cert) == ("file", True, Path("/x.pem"))


def test_names_of_flags_and_variables_are_the_originals() -> None:
    names = {option.flag: option.variable for option in list_options()}
    assert names["--master-host"] == "DET_MASTER_HOST"
    assert names["--security-tls-master-cert-name"] == "DET_SECURITY_TLS_MASTER_CERT_NAME"
    assert names["--container-auto-remove-disabled"] == "DET_CONTAINER_AUTO_REMOVE_DISABLED"
    assert names["--log-level"] == "DET_LOG_LEVEL"


def test_defaults() -> None:
    settings, warnings = load()
    assert settings.agent_id == "this-host"
    assert settings.resource_pool == "default"
    assert settings.state_dir == Path("/var/lib/shipway-agent")
    assert settings.agent_reconnect_attempts == 0
    assert settings.visible_gpus is None
    assert warnings == []


def test_a_relative_state_folder_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(flags={"state_dir": "./state"})[0].state_dir == tmp_path / "state"


def test_keys_are_read_in_any_case() -> None:
    settings, _ = load(
        "Master_Host: m\nSECURITY: {Tls: {Enabled: true}}\n", flags={"master_host": "flag"}
    )
    assert settings.master_host == "flag"
    assert settings.security.tls.enabled


def test_visible_gpus_is_set_only_by_whoever_sets_it() -> None:
    variables = {"CUDA_VISIBLE_DEVICES": "2", "DET_VISIBLE_GPUS": ""}
    assert load(environ=variables)[0].visible_gpus is None
    assert load("visible_gpus: ''", environ=variables)[0].visible_gpus == ""
    assert load("visible_gpus: '0,3'", environ=variables)[0].visible_gpus == "0,3"


def test_keys_of_former_releases_are_accepted_with_a_warning() -> None:
    text = """
label: gpu
fluent: {image: x, port: 1}
singularity_options: {}
log: {color: true, level: trace}
"""
    settings, warnings = load(text)
    assert settings.log_level == "debug"
    assert [warning.split(": ")[1] for warning in warnings] == [
        "label",
        "fluent.image",
        "fluent.port",
        "singularity_options",
        "log.color",
    ]


def test_variables_and_flags_of_former_releases_are_accepted_too() -> None:
    settings, warnings = load(
        "fluent: {image: x}\ncontainer_runtime: singularity\n",
        environ={"DET_LABEL": "gpu", "DET_FLUENT_PORT": "5", "DET_LOG_COLOR": "true"},
        flags={"fluent.container_name": "x"},
    )
    assert settings.container_runtime == "apptainer"
    assert [warning.split(": ")[:-1] for warning in warnings] == [
        ["agent.yaml", "fluent.image", "has no effect"],
        ["agent.yaml", "container_runtime"],
        ["DET_LABEL", "has no effect"],
        ["DET_FLUENT_PORT", "has no effect"],
        ["DET_LOG_COLOR", "has no effect"],
        ["--fluent-container-name", "has no effect"],
    ]


def test_the_local_port_is_off_and_for_this_machine_unless_set() -> None:
    settings, _ = load()
    assert not settings.api_enabled
    assert settings.bind_ip == "127.0.0.1"
    text = "api_enabled: true\nbind_ip: 0.0.0.0\nbind_port: 9091\ntls: true\n"
    settings, warnings = load(text + "tls_cert: /c\ntls_key: /k\n")
    assert (settings.bind_ip, settings.bind_port, warnings) == ("0.0.0.0", 9091, [])


def test_tls_at_the_local_port_needs_certificate_and_key() -> None:
    assert load("tls: true")[0].tls
    with pytest.raises(SettingsError, match="tls needs tls_cert and tls_key"):
        load("tls: true\napi_enabled: true\ntls_cert: /c")


def test_each_option_of_the_original_is_known() -> None:
    known = {option.key for option in [*list_options(), *list_retired()]}
    assert set(ORIGINAL.split()) - known == {"config_file"}  # which is --config-file


def test_what_is_written_without_a_value_is_not_set() -> None:
    settings, warnings = load("agent_id:\nsecurity:\n  tls:\nhooks: {after_s: }\nlabel:\n")
    assert settings == load()[0]
    assert warnings == []


def test_a_misspelled_variable_is_named() -> None:
    _, warnings = load(environ={"DET_MASTER_HOTS": "m", "DET_MASTER": "http://m:8080"})
    assert warnings == ["DET_MASTER_HOTS: is no setting; DET_MASTER_HOST is"]


def test_a_mistake_is_told_at_the_variable_or_flag_that_has_it() -> None:
    with pytest.raises(SettingsError) as caught:
        load(
            "master_port: 80\nslot_type: tpu",
            environ={"DET_MASTER_PORT": "many"},
            flags={"artificial_slots": "-1"},
        )
    assert sorted(problem.place for problem in caught.value.problems) == [
        "--artificial-slots",
        "DET_MASTER_PORT",
        "agent.yaml: slot_type",
    ]


def test_every_mistake_is_told_at_once_with_its_key() -> None:
    text = "masterhost: x\nmaster_port: 70000\nslot_type: tpu\nsecurity: {tls: {enable: 1}}\n"
    with pytest.raises(SettingsError) as caught:
        load(text)
    for key in ("masterhost", "master_port", "slot_type", "security.tls.enable"):
        assert f"{key}: " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a list", "must be a mapping"),
        ("a: [", "not YAML"),
        ("security: {tls: {skip_verify: true, master_cert: /x}}", "exclude each other"),
        ("security: {tls: {client_cert: /x}}", "need each other"),
        ('agent_id: "a\\nb"', "control characters"),
        ("master_host: http://m", "master_host: must be a host's name or address alone"),
        ("master_host: m:8080", "the port is a setting too"),
        ("container_master_host: a/b", "container_master_host: must be a host's"),
        ("agent_reconnect_backoff: 0", "greater than 0"),
        ("container_runtime: lxc", "container_runtime"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(text)


def test_the_master_must_be_named_where_it_is_needed() -> None:
    with pytest.raises(SettingsError, match="master_host: is not set"):
        load("", needs_master=True)


@pytest.mark.parametrize(
    ("values", "port"),
    [("", 80), ("master_port: 8080", 8080), ("security: {tls: {enabled: true}}", 443)],
)
def test_the_port_of_the_master(values: str, port: int) -> None:
    assert load(values)[0].port == port


@pytest.mark.parametrize(
    "host", ["m", "m.example", "10.0.0.1", "::1", "[fe80::1]", "m_1", "mañana"]
)
def test_names_and_addresses_of_the_master(host: str) -> None:
    assert load(f"master_host: '{host}'")[0].master_host == host


def test_hooks_are_lists_in_the_file_and_words_elsewhere() -> None:
    in_file, _ = load("hooks: {on_connection_lost: [touch, /a b]}")
    assert in_file.hooks.on_connection_lost == ("touch", "/a b")
    by_flag, _ = load(flags={"hooks.on_connection_lost": "touch '/a b'"})
    assert by_flag.hooks.on_connection_lost == ("touch", "/a b")


def test_the_state_folder_of_a_plain_user_is_in_the_home() -> None:
    home = {"HOME": "/home/u"}
    assert default_state_dir(home, is_root=False) == Path("/home/u/.local/state/shipway-agent")
    state = {"XDG_STATE_HOME": "/s", **home}
    assert default_state_dir(state, is_root=False) == Path("/s/shipway-agent")


def test_the_state_folder_under_systemd_is_the_one_it_made() -> None:
    by_systemd = {"STATE_DIRECTORY": "/var/lib/of-unit:/other", "HOME": "/root"}
    assert default_state_dir(by_systemd, is_root=True) == Path("/var/lib/of-unit")


def test_proxies_which_may_hold_passwords_are_not_shown() -> None:
    settings, _ = load("http_proxy: http://user:secret@p")
    assert "secret" not in repr(settings)


def test_what_was_changed_is_shown_without_secrets() -> None:
    settings, _ = load(
        "master_host: m\nhttps_proxy: http://u:secret@p\nlog: {level: warn}\n"
        "hooks: {on_connection_lost: [notify, --token=secret]}\n"
    )
    changed = changed_settings(settings)
    assert (changed["master_host"], changed["log.level"]) == ("m", "warn")
    assert changed["https_proxy"] == changed["hooks.on_connection_lost"] == "***"
    assert "slot_type" not in changed


def test_the_lists_of_settings_for_users_are_as_the_model_is() -> None:
    stale = [path.name for path, text in REFERENCE.pages().items() if path.read_text() != text]
    assert stale == [], "run python -m shipway_agent._reference"


def test_the_example_file_has_each_key_with_its_default() -> None:
    keys = re.sub(r"(?m)^#(?=[^ ]|  )", "", REFERENCE.render_example())
    settings, warnings = load(keys)
    assert settings == load()[0]
    assert warnings == []
    for option in list_options():
        assert re.search(rf"(?m)^ *{option.key.rpartition('.')[2]}:", keys), option.key
    assert load(REFERENCE.render_example()) == load()
