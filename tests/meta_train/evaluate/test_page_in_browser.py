"""The report's page in a real Chromium: from a file, without a network, narrow and wide."""

import shutil

import pytest

from meta_train.evaluate.report.files import write_report
from tests.meta_train.evaluate.made_up_sections import sections
from tests.meta_train.evaluate.test_report import THRESHOLDS, diverging, mid_run, twin
from tests.meta_train.evaluate.world import evaluated, everyone, learned, task

webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no Chromium here")

NAME = "a_learned_optimizer_with_quite_a_long_name_indeed"
TASKS = [task("alpha"), task("fashion_mnist_8x8_mlp16x16x16x16x16x16_tanh", steps=200)]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    losses = {NAME: mid_run, "other": twin, (TASKS[0].family, NAME): diverging}
    report, _ = evaluated(
        folder, TASKS, everyone(learned(NAME), learned("other")), losses, thresholds=THRESHOLDS
    )
    write_report(folder, report | sections(NAME, TASKS[0].name))
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def opened(browser, page, width=1440):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(page.as_uri())
    return browser


def test_it_opens_from_a_file_without_a_request_and_without_an_error(browser, page):
    opened(browser, page)
    assert "Evaluation" in browser.title
    assert [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []
    requests = [
        entry["message"]
        for entry in browser.get_log("performance")
        if "Network.requestWillBeSent" in entry["message"]
    ]
    assert all("file://" in message for message in requests)
    assert not any("http://" in m.replace("http://www.w3.org", "") for m in requests)
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    verdict = browser.find_element("css selector", ".verdict").text
    assert NAME in verdict


def table_under(browser, title):
    xpath = f"//h2[text()='{title}']/following-sibling::div[1]//table"
    return browser.find_element("xpath", xpath)


def rows_of(table):
    return [
        [cell.text for cell in row.find_elements("css selector", "td")]
        for row in table.find_elements("css selector", "tbody tr")
    ]


def test_tables_are_sorted_by_their_heads(browser, page):
    opened(browser, page)
    table = table_under(browser, "Losses at the end, on every split")
    before = rows_of(table)
    head = table.find_elements("css selector", "th button")[4]
    head.click()
    rising = [float(row[4]) for row in rows_of(table) if row[4] != "–"]
    assert rising == sorted(rising)
    assert len(set(rising)) > 5
    head.click()
    falling = [float(row[4]) for row in rows_of(table) if row[4] != "–"]
    assert falling == rising[::-1]
    assert table.find_elements("css selector", "th")[4].get_attribute("aria-sort") == "descending"
    assert sorted(rows_of(table)) == sorted(before)


def test_curves_of_all_splits_are_hidden_and_shown(browser, page):
    opened(browser, page)
    folded = browser.find_elements("css selector", "details .curves svg")
    assert len(folded) == 2 * len(TASKS)  # outer validation and training
    assert not any(figure.is_displayed() for figure in folded)
    for summary in browser.find_elements("css selector", "summary"):
        summary.click()
    assert all(figure.is_displayed() for figure in folded)
    button = browser.find_elements("css selector", ".legend button")[0]
    lines = browser.find_elements("css selector", f".{button.get_attribute('data-line')}")
    assert len(lines) == 2 * 3  # a line and a band of the one task that did not diverge
    assert all(line.is_displayed() for line in lines)
    others = browser.find_elements("css selector", ".line-1")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert not any(line.is_displayed() for line in lines)
    assert all(line.is_displayed() for line in others)
    button.click()
    assert all(line.is_displayed() for line in lines)


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_nothing_overflows(browser, page, width):
    opened(browser, page, width)
    for summary in browser.find_elements("css selector", "summary"):
        summary.click()
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    wide = browser.execute_script(
        """return [...document.querySelectorAll('body *')].filter(e =>
             !e.closest('.scroll') && e.getBoundingClientRect().right > innerWidth + 1)
             .map(e => e.outerHTML.slice(0, 80))"""
    )
    assert wide == []


def test_it_follows_the_dark_and_prints(browser, page):
    opened(browser, page)
    colours = {}
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        colours[scheme] = browser.execute_script(
            """const of = (e, p) => getComputedStyle(e)[p];
               const text = document.querySelector('.curves svg text');
               return [of(document.querySelector('h1'), 'color'), of(text, 'fill')]"""
        )
    assert colours["light"] == ["rgb(0, 0, 0)"] * 2
    assert colours["dark"] == ["rgb(255, 255, 255)"] * 2
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert len(printed) > 10_000


def test_raw_files_are_linked_and_there(browser, page):
    opened(browser, page)
    links = browser.find_elements("css selector", "details a")
    assert len(links) > 10
    for link in links:
        href = link.get_attribute("href")
        assert href.startswith("file://")
        path = browser.execute_script(
            "return decodeURIComponent(new URL(arguments[0]).pathname)", href
        )
        assert path.startswith(str(page.parent))
        assert (page.parent / path.removeprefix(f"{page.parent}/")).is_file()
