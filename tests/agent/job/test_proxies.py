"""Proxies of the node, as they reach the task."""

from __future__ import annotations

from pathlib import Path

from shipway_agent.job.proxies import parse_proxies, proxy_variables, read_proxies

ENVIRONMENT = """\
PATH="/usr/bin:/bin"
# http_proxy=http://old:1
https_proxy=http://proxy:3128
export no_proxy=".example.com, 10.0.0.0/8"  # ours
broken="
"""
SUSE = """\
PROXY_ENABLED="yes"
HTTP_PROXY="http://suse:8080"
HTTPS_PROXY=""
"""


def test_both_files_are_read(tmp_path: Path) -> None:
    first, second = tmp_path / "environment", tmp_path / "proxy"
    first.write_text(ENVIRONMENT)
    second.write_text(SUSE)
    assert read_proxies([first, second, tmp_path / "missing"]) == {
        "https_proxy": "http://proxy:3128",
        "no_proxy": ".example.com, 10.0.0.0/8",
        "http_proxy": "http://suse:8080",
    }


def test_proxies_that_are_switched_off_are_none() -> None:
    assert parse_proxies(SUSE.replace("yes", "no")) == {}


def test_a_task_gets_them_in_both_spellings_and_reaches_its_master_without() -> None:
    proxies = {"https_proxy": "http://proxy:3128", "no_proxy": ".example.com"}
    added = proxy_variables(proxies, {}, direct=["http://login1:8183", "http://[::1]:8080"])
    spared = ".example.com,localhost,127.0.0.1,login1,::1"
    assert added == {
        "https_proxy": "http://proxy:3128",
        "HTTPS_PROXY": "http://proxy:3128",
        "no_proxy": spared,
        "NO_PROXY": spared,
    }


def test_what_a_task_sets_itself_stays() -> None:
    own = {"HTTPS_PROXY": "http://mine", "no_proxy": ""}
    assert proxy_variables({"https_proxy": "http://proxy"}, own, direct=[]) == {}


def test_without_a_proxy_nothing_is_added() -> None:
    assert proxy_variables({"no_proxy": "x"}, {}, direct=["http://login1"]) == {}
