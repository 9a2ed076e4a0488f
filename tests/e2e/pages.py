"""What the tests of the page do again and again."""

from __future__ import annotations

from tests.e2e.conftest import Site
from tests.lab.browser import Browser
from tests.lab.shipway import PASSWORD


def enter(window: Browser, site: Site, user: str) -> None:
    """Open the page as a user, who may be logged in already; former complaints are forgotten."""
    window.forget_complaints()
    window.open(f"{site.master.url}/?{user}")
    window.find("#user:not(:empty), input[name=username]")
    if window.evaluate("document.getElementById('user').textContent").startswith(f"{user} "):
        return
    window.forget()
    window.open(f"{site.master.url}/?log-in")
    window.type("input[name=username]", user)
    window.type("input[name=password]", PASSWORD)
    window.click("button[type=submit]")
    window.find("h2", text="Agents")


def assert_no_complaints(window: Browser) -> None:
    """Hold the browser to have found nothing wrong but that nobody was logged in."""
    harmless = ("401 (Unauthorized)", "/favicon.ico")  # a page of a task may have no icon
    found = [one for one in window.complaints if not any(part in one for part in harmless)]
    assert found == [], found
