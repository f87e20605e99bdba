"""The page of `ultra-ports serve` in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.browser import Browser, Page
from tests.lab.cli import ultra
from tests.lab.exporter import Serving
from tests.lab.ports import free_port
from tests.lab.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.processes import Lab

pytestmark = pytest.mark.xdist_group("browser")
HOSTILE_NAME = "<b id=evil>x</b>"[:15]  # as much of a name as the kernel keeps
HOSTILE_FOLDER = "<img src=x onerror=document.body.id='evil'>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.page() as page:
        yield page


class Shop:
    """A project of two services, `api` and `web`, in a folder whose name means harm."""

    def __init__(self, folder: Path) -> None:
        self.api, self.web = free_port(), free_port()
        (folder / ".git").mkdir(parents=True)
        (folder / "ultra-ports.toml").write_text(
            f'project = "shop"\n[services.api]\nport = {self.api}\n'
            f"[services.web]\nport = {self.web}\n"
        )


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    folder = tmp_path / HOSTILE_FOLDER
    shop = Shop(folder)
    monkeypatch.chdir(folder)
    return shop


def text(page: Page, which: str = "body") -> str:
    return str(page.value(f"document.querySelector({which!r})?.innerText ?? ''"))


def cards(page: Page, kind: str) -> int:
    return int(page.value(f"document.querySelectorAll('article.{kind}').length") or 0)


def test_services_are_shown_and_kept_up_to_date(lab: Lab, page: Page, shop: Shop) -> None:
    assert ultra("reserve", "api", str(shop.api), "--ttl", "1h").status == 0
    server = lab.start("answering", shop.api)
    lab.start("answering", shop.web)
    with Serving("--make-token") as serving:
        page.visit(f"{serving.url}#token={serving.token}")
        wait_until(lambda: cards(page, "healthy") == 2, "both are shown")
        api = text(page, "article")
        page.value("window.untouched = true")
        server.popen.kill()
        server.popen.wait()
        wait_until(lambda: cards(page, "unhealthy") == 1, "one is not healthy")
        assert page.value("document.title") == "Ports: 1 of 2 healthy"
        assert page.value("window.untouched") is True
        requested = [each["request"]["url"] for each in page.told("Network.requestWillBeSent")]

    assert api.splitlines()[:2] == ["api", "healthy"]
    assert f"{shop.api}/tcp" in api
    assert str(server.pid) in api
    assert "api of project shop" in api
    assert {url for url in requested if not url.startswith("data:")} == {
        serving.url,
        f"{serving.url}healthz",
    }
    assert page.told("Runtime.exceptionThrown") == []


def test_names_are_text(lab: Lab, page: Page, shop: Shop) -> None:
    assert ultra("reserve", "api", str(shop.api), "--ttl", "1h").status == 0
    lab.start("answering", shop.api, "--name", HOSTILE_NAME)
    with Serving("--make-token") as serving:
        page.visit(f"{serving.url}#token={serving.token}")
        wait_until(lambda: cards(page, "healthy") == 1, "it is shown")

        assert HOSTILE_NAME in text(page)
        assert HOSTILE_FOLDER in text(page)
        assert page.value("document.querySelector('#evil, #services img, #services b')") is None
        assert page.value("document.body.id") == ""


def test_without_the_token_it_shows_less(lab: Lab, page: Page, shop: Shop) -> None:
    assert ultra("reserve", "api", str(shop.api), "--ttl", "1h").status == 0
    server = lab.start("answering", shop.api)
    with Serving("--make-token") as serving:
        page.visit(serving.url)
        wait_until(lambda: cards(page, "healthy") == 1, "it is shown")
        without = text(page)
        page.value(f"location.hash = 'token={serving.token}'")
        wait_until(lambda: HOSTILE_FOLDER in text(page), "it shows the rest, without a reload")
        assert "left out" not in text(page)

    assert str(server.pid) in without
    assert HOSTILE_FOLDER not in without
    assert "left out" in without


def test_no_other_script_runs(page: Page, shop: Shop) -> None:
    """Were a name to become an element all the same, the policy would keep its script away."""
    with Serving() as serving:
        page.visit(serving.url)
        wait_until(lambda: cards(page, "unhealthy") == 2, "it is shown")
        page.value(
            "const script = document.createElement('script');"
            "script.append('document.body.id = 1'); document.body.append(script)"
        )
        page.value(f"fetch('http://127.0.0.1:{shop.api}/').catch(() => {{}})")
        page.value("new Image().src = '/healthz?image'")

        def refusals() -> int:
            entries = page.told("Log.entryAdded")
            return sum("Content Security Policy" in each["entry"]["text"] for each in entries)

        wait_until(lambda: refusals() >= 2, "the policy says so")
        assert page.value("document.body.id") == ""


def test_the_server_may_be_started_again(lab: Lab, page: Page, shop: Shop) -> None:
    lab.start("answering", shop.api)
    listen = f"127.0.0.1:{free_port()}"
    with Serving(listen=listen) as serving:
        page.visit(serving.url)
        wait_until(lambda: cards(page, "healthy") == 1, "it is shown")
        serving.end()
        wait_until(lambda: "No answer" in text(page), "the page says that it is old")
    lab.start("answering", shop.web)
    with Serving(listen=listen):
        wait_until(lambda: cards(page, "healthy") == 2, "it goes on")
        assert "No answer" not in text(page)


def test_it_fits_a_phone(lab: Lab, page: Page, shop: Shop) -> None:
    assert ultra("reserve", "api", str(shop.api), "--ttl", "1h").status == 0
    lab.start("answering", shop.api, "--name", "x" * 15)
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=360,
        height=640,
        deviceScaleFactor=2,
        mobile=True,
    )
    with Serving("--make-token") as serving:
        page.visit(f"{serving.url}#token={serving.token}")
        wait_until(lambda: cards(page, "healthy") == 1, "it is shown")
        assert page.value("innerWidth") == 360
        assert page.value("document.documentElement.scrollWidth") <= 360
        assert page.value("getComputedStyle(document.body).fontSize") == "16px"
        assert page.value(
            "[...document.querySelectorAll('#services *')].every((each) =>"
            " each.getBoundingClientRect().right <= 360)"
        )


def test_light_and_dark(page: Page, shop: Shop) -> None:
    """Text can be told from its background: contrast 4.5 at least (WCAG 2.2, 1.4.3)."""
    contrast = """(() => {
      const light = (text) => text.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
        .map((part) => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
        .reduce((sum, part, at) => sum + part * [.2126, .7152, .0722][at], 0);
      const back = light(getComputedStyle(document.querySelector("article")).backgroundColor);
      return Math.min(...[...document.querySelectorAll("article bdi")].map((each) => {
        const front = light(getComputedStyle(each).color);
        return (Math.max(front, back) + .05) / (Math.min(front, back) + .05);
      }));
    })()"""
    backgrounds = set()
    with Serving() as serving:
        page.visit(serving.url)
        wait_until(lambda: cards(page, "unhealthy") == 2, "it is shown")
        for scheme in ("light", "dark"):
            feature = {"name": "prefers-color-scheme", "value": scheme}
            page.call("Emulation.setEmulatedMedia", features=[feature])
            backgrounds.add(page.value("getComputedStyle(document.body).backgroundColor"))
            assert page.value(contrast) >= 4.5, (scheme, shop.api)
    assert len(backgrounds) == 2
