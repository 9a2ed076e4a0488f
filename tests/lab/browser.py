"""A headless Chromium, driven by its WebDriver."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
)


class Browser:
    """One window."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def forget(self) -> None:
        """Lose who was logged in."""
        self._driver.delete_all_cookies()

    def open(self, url: str) -> None:
        """Go to *url*."""
        self._driver.get(url)

    def find(self, css: str, *, text: str = "", limit_s: float = 30) -> WebElement:
        """Wait for an element that fits *css* and holds *text*.

        Raises:
            selenium.common.exceptions.TimeoutException: There was none in *limit_s* seconds.
        """

        def look(driver: webdriver.Chrome) -> WebElement | None:
            # In one step in the page: what is found may be drawn anew a moment later.
            found: WebElement | None = driver.execute_script(
                "return [...document.querySelectorAll(arguments[0])]"
                ".find((one) => one.textContent.includes(arguments[1])) ?? null",
                css,
                text,
            )
            return found

        element = WebDriverWait(self._driver, limit_s, poll_frequency=0.05).until(
            look, f"nothing fits {css} with {text!r} in:\n{self.text}"
        )
        assert element
        return element

    def count(self, css: str) -> int:
        """Count the elements that fit *css* now."""
        return len(self._driver.find_elements(By.CSS_SELECTOR, css))

    def click(self, css: str, *, text: str = "") -> None:
        """Click on what `find` finds, in the page itself: it may be drawn anew at any moment."""
        self.find(css, text=text)
        self._driver.execute_script(
            "[...document.querySelectorAll(arguments[0])]"
            ".find((one) => one.textContent.includes(arguments[1])).click()",
            css,
            text,
        )

    def type(self, css: str, text: str) -> None:
        """Type into a field."""
        self.find(css).send_keys(text)

    @property
    def text(self) -> str:
        """Everything that can be read."""
        return self._driver.find_element(By.TAG_NAME, "body").text

    @property
    def complaints(self) -> list[str]:
        """What the browser itself complained of: errors of scripts, refused loads."""
        return [str(entry["message"]) for entry in self._driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def save_picture(self, path: Path) -> None:
        """Take a picture of the window."""
        self._driver.save_screenshot(str(path))


@contextmanager
def browsing(profile: Path) -> Generator[Browser]:
    """Run a browser with an empty profile."""
    options = webdriver.ChromeOptions()
    for option in (*_OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.binary_location = shutil.which("chromium") or "chromium"
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver") or "chromedriver"))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
