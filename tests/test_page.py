"""The page, used by a real browser."""

import os
import shutil
from pathlib import Path

import pytest
from conftest import install
from test_serve import Server

from jiesu_nlp.serve.feedback import FeedbackStore

TEXT = "望京西园四区自来水管老化渗水😀,居民用水困难,反映多次没人管"


@pytest.fixture(scope="module")
def browser():
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if not shutil.which("chromium"):
        install("chromium", "chromium-driver")
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("Chromium and its driver are not installed, and they may not be installed here")
    options = selenium.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,1400"):
        options.add_argument(argument)
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(shutil.which("chromedriver")))
    driver.implicitly_wait(10)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    running = Server(folder, history=str(folder / "history.db"))
    running.folder = folder
    yield running
    running.stop()


def _wait(browser, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 15).until(condition)


def _ask(browser, server, text=TEXT):
    browser.get(server.url)
    browser.find_element("id", "text").send_keys("")
    browser.execute_script("document.getElementById('text').value = arguments[0]", text)  # emoji cannot be typed
    browser.find_element("css selector", "#ask button").click()
    _wait(browser, lambda b: b.find_element("id", "answer").is_displayed())


def test_a_ticket_is_answered_with_all_that_is_known(browser, server):
    _ask(browser, server)
    shown = browser.find_element("id", "answer").text
    for part in ("便利性", "水务", "条例第", "反映多次", "条例第二十四条", "老化"):
        assert part in shown
    assert len(browser.find_elements("css selector", "#categories li")) == 3
    marked = browser.find_element("id", "marked")
    assert marked.get_attribute("textContent") == TEXT
    cues = [m.text for m in browser.find_elements("css selector", "#marked mark.cue")]
    assert "反映多次" in "".join(cues) and browser.find_elements("css selector", "#marked mark.word")
    width = browser.find_element("css selector", "#categories i").size["width"]
    assert width > 100


def test_a_correction_is_stored(browser, server):
    from selenium.webdriver.support.ui import Select

    _ask(browser, server)
    browser.find_element("css selector", "#correct summary").click()
    Select(browser.find_element("id", "right-department")).select_by_value("housing")
    browser.find_element("css selector", "#correction button").click()
    _wait(browser, lambda b: "已记下" in b.find_element("id", "thanks").text)
    rows = list(FeedbackStore(server.folder / "feedback.db", create=False).rows())
    assert rows[-1]["department"] == "housing" and rows[-1]["text"] == TEXT


def test_the_keyboard_is_enough(browser, server):
    from selenium.webdriver.common.keys import Keys

    browser.get(server.url)
    text = browser.find_element("id", "text")
    text.send_keys("小区停水三天了没人管", Keys.CONTROL, Keys.ENTER)
    _wait(browser, lambda b: b.find_element("id", "answer").is_displayed())
    tab = browser.find_element("id", "tab-one")
    tab.send_keys(Keys.ARROW_RIGHT)
    assert browser.switch_to.active_element.get_attribute("id") == "tab-table"
    assert browser.find_element("id", "file").is_displayed() and not text.is_displayed()


def test_a_table_comes_back_labelled(browser, server, tmp_path):
    table = tmp_path / "工单.csv"
    table.write_text("工单编号,主要内容\n" + "".join(f"{i},{i}号楼停水了\n" for i in range(450)), encoding="utf-8")
    browser.get(server.url)
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    browser.find_element("id", "tab-table").click()
    browser.find_element("id", "file").send_keys(str(table))
    browser.find_element("css selector", "#send button").click()
    _wait(browser, lambda b: b.find_element("id", "download").is_displayed())
    assert "450 件已贴标签" in browser.find_element("id", "state").text
    browser.find_element("id", "download").click()
    saved = tmp_path / "工单-贴标签.csv"
    _wait(browser, lambda _: saved.exists())
    assert len(saved.read_text(encoding="utf-8-sig").splitlines()) == 451


def test_errors_are_told_in_chinese(browser, server):
    browser.get(server.url)
    browser.find_element("id", "text").send_keys("abc")
    browser.find_element("css selector", "#ask button").click()
    _wait(browser, lambda b: "没有中文" in b.find_element("id", "error").text)


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (360, "light")])
def test_it_fits_the_screen(browser, server, width, scheme):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 1500, "deviceScaleFactor": 1, "mobile": False}
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    _ask(browser, server)
    browser.find_element("css selector", "#correct summary").click()
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    if folder := os.environ.get("JIESU_SCREENSHOTS"):
        Path(folder).mkdir(exist_ok=True)
        browser.save_screenshot(str(Path(folder) / f"page-{scheme}-{width}.png"))
    logged = [entry for entry in browser.get_log("browser") if entry["source"] != "network"]
    assert not [entry for entry in logged if entry["level"] == "SEVERE"]
