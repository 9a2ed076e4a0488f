"""A headless Chromium, driven by its WebDriver."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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

    def __init__(self, driver: webdriver.Chrome, downloads: Path) -> None:
        self._driver, self._downloads = driver, downloads

    def forget(self) -> None:
        """Lose who was logged in."""
        self._driver.delete_all_cookies()

    def open(self, url: str) -> None:
        """Go to *url*."""
        self._driver.get(url)

    def find(self, css: str, *, text: str = "", limit_s: float = 60) -> WebElement:
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

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        return self._driver.execute_script(f"return {expression}")

    def resize(self, width_px: int, height_px: int) -> None:
        """Show the page on a screen of another size; 0 and 0 bring back the window's own."""
        screen = {"width": width_px, "height": height_px, "deviceScaleFactor": 0, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)

    def wait_for_file(self, pattern: str, *, limit_s: float = 60) -> Path:
        """Wait for a downloaded file whose name fits *pattern*."""

        def look(_: webdriver.Chrome) -> Path | None:
            return next(self._downloads.glob(pattern), None)

        found = WebDriverWait(self._driver, limit_s, poll_frequency=0.05).until(
            look, f"no download fits {pattern}"
        )
        assert found
        return found

    @property
    def text(self) -> str:
        """Everything that can be read."""
        return self._driver.find_element(By.TAG_NAME, "body").text

    @property
    def complaints(self) -> list[str]:
        """What the browser itself complained of: errors of scripts, refused loads."""
        return [str(entry["message"]) for entry in self._driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def forget_complaints(self) -> None:
        """Forget what the browser complained of so far."""
        self._driver.get_log("browser")  # type: ignore[no-untyped-call]

    def save_picture(self, path: Path) -> None:
        """Take a picture of the window."""
        self._driver.save_screenshot(str(path))


@contextmanager
def browsing(profile: Path) -> Generator[Browser]:
    """Run a browser with an empty profile."""
    options = webdriver.ChromeOptions()
    for option in (*_OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    downloads = profile / "downloads"
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.binary_location = shutil.which("chromium") or "chromium"
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver") or "chromedriver"))
    try:
        yield Browser(driver, downloads)
    finally:
        driver.quit()
