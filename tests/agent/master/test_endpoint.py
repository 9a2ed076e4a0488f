from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from yarl import URL

from shipway_agent.config import AgentSettings, TlsSettings
from shipway_agent.errors import MasterUnreachable
from shipway_agent.master.endpoint import find_proxy, make_endpoint, make_tls_context


def url_of(**values: object) -> str:
    return str(make_endpoint(AgentSettings.model_validate(values), {}).url)


def test_the_port_follows_from_tls_unless_it_is_set() -> None:
    tls = {"tls": {"enabled": True}}
    assert url_of(master_host="m") == "ws://m/agents"
    assert url_of(master_host="m", security=tls) == "wss://m/agents"
    assert url_of(master_host="m", master_port=8080) == "ws://m:8080/agents"
    assert url_of(master_host="[::1]", master_port=8080) == "ws://[::1]:8080/agents"


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("ws://m/agents", {}, None),
        ("ws://m/agents", {"HTTP_PROXY": "http://p:3128"}, "http://p:3128"),
        ("ws://m/agents", {"HTTPS_PROXY": "http://p:3128"}, None),
        ("wss://m/agents", {"https_proxy": "p:3128"}, "http://p:3128"),
        ("wss://m.a.org/agents", {"HTTPS_PROXY": "p", "NO_PROXY": "b.org, .a.org"}, None),
        ("wss://ma.org/agents", {"HTTPS_PROXY": "p", "NO_PROXY": "a.org"}, "http://p"),
        ("ws://10.1.2.3/agents", {"HTTP_PROXY": "p", "NO_PROXY": "10.0.0.0/8"}, None),
        ("ws://11.1.2.3/agents", {"HTTP_PROXY": "p", "NO_PROXY": "10.0.0.0/8"}, "http://p"),
        ("ws://m:8080/agents", {"HTTP_PROXY": "p", "NO_PROXY": "m:8080"}, None),
        ("ws://m:8081/agents", {"HTTP_PROXY": "p", "NO_PROXY": "m:8080"}, "http://p"),
        ("ws://m/agents", {"HTTP_PROXY": "p", "NO_PROXY": "*"}, None),
        ("ws://localhost/agents", {"HTTP_PROXY": "p"}, None),
        ("ws://[::1]:8080/agents", {"HTTP_PROXY": "p"}, None),
    ],
)
def test_the_proxy_of_the_environment_is_used(
    url: str, environ: dict[str, str], proxy: str | None
) -> None:
    found = find_proxy(URL(url), environ)
    assert found == (None if proxy is None else URL(proxy))


@pytest.mark.parametrize(
    "proxy", ["http://u:geheim@", "http://[", "u:geheim@h:12a", "socks5://u:geheim@h:1080"]
)
def test_a_proxy_that_is_none_is_refused_without_its_password(proxy: str) -> None:
    with pytest.raises(MasterUnreachable, match="HTTPS_PROXY is not the URL of an HTTP proxy") as e:
        find_proxy(URL("wss://m/agents"), {"HTTPS_PROXY": proxy})
    assert "geheim" not in str(e.value)


def test_the_master_is_verified_unless_said_otherwise() -> None:
    context = make_tls_context(TlsSettings(enabled=True))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert make_tls_context(TlsSettings(skip_verify=True)).verify_mode is ssl.CERT_NONE


def test_a_certificate_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    missing, empty = tmp_path / "missing.pem", tmp_path / "empty.pem"
    empty.write_text("")
    for file in (missing, empty):
        with pytest.raises(MasterUnreachable, match=rf"master_cert: {file} cannot be used"):
            make_tls_context(TlsSettings(master_cert=file))
        with pytest.raises(MasterUnreachable, match="client_cert"):
            make_tls_context(TlsSettings(client_cert=file, client_key=file))
