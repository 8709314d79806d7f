"""The report of a finished experiment in a real browser: Debian's Chromium without a window, driven by Selenium."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from eval.predictions.prediction_file import Prediction, read_predictions, write_predictions
from eval.settings import ReportSettings, ScoreSettings
from extract.decoding.read_clip import read_clip
from pipeline.corpus.layout import DATASET_FOLDER, TEXT_FILE
from pipeline.experiment.config import load_config
from pipeline.experiment.run import Run
from pipeline.experiment.scored_files import score_files
from pipeline.report_page.frame_strips import draw_strip, read_strips
from pipeline.report_page.page_content import write_page, write_page_of_files
from pipeline.stages.stage_list import stages
from pipeline.stages.table_rows import rows

pytestmark = pytest.mark.long

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--window-size=1200,900",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(finished_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished experiment whose stage 2 says something: each reference with one word too few and one too many."""
    out = tmp_path_factory.mktemp("report") / "out"
    shutil.copytree(finished_demo, out, ignore=shutil.ignore_patterns("corpus"))
    corpus = finished_demo / "corpus"
    said = [
        Prediction(row.id, " ".join([*row.reference.split()[1:], "bestimmt"]) if place else "", row.reference, 40)
        for place, row in enumerate(read_predictions(out / "predictions/stage2.jsonl"))
    ]
    write_predictions(out / "predictions/stage2.jsonl", said)
    log = [
        {"step": step, "group": group, "gradient_norm": 1 / (1 + step), "parameter_norm": 3.0 + step}
        for step in range(9)
        for group in ("encoder.last", "lm.last")
    ]
    pq.write_table(pa.Table.from_pylist(log), out / "logs/stage2.dominance.parquet")
    places = [f"data.root={corpus / DATASET_FOLDER}", f"train.lm.text={corpus / TEXT_FILE}", "report.clips=3"]
    return Run(load_config("tiny", places), out)


@pytest.fixture(scope="module")
def page(run: Run) -> Path:
    return write_page(run, rows(run.experiment), [stage.name for stage in stages(run.experiment)])


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs Chromium and its driver: `make browser`, which .ci/run does, installs them on Debian")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: webdriver.Chrome, page: Path) -> Iterator[webdriver.Chrome]:
    """The report, opened; whatever a test does, the console stays empty and nothing is fetched."""
    look(chromium, 1200)
    chromium.get(page.as_uri())
    yield chromium
    assert chromium.get_log("browser") == []
    fetched = chromium.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [address for address in fetched if not address.startswith("data:")] == []


def look(chromium: webdriver.Chrome, width: int, **media: str) -> None:
    """A window of this width, of a phone where it is narrow, and what its owner prefers."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def shown(browser: webdriver.Chrome) -> list[str]:
    cards = browser.find_elements(By.CSS_SELECTOR, ".card")
    return [str(card.get_attribute("data-id")) for card in cards if card.is_displayed()]


def first_player(browser: webdriver.Chrome) -> tuple[WebElement, WebElement, WebElement]:
    """Of the first clip: its picture, play button and slider."""
    card = browser.find_element(By.CSS_SELECTOR, ".card[data-rate]")
    browser.execute_script("arguments[0].scrollIntoView()", card)
    screen, button, slider = (card.find_element(By.CSS_SELECTOR, name) for name in (".screen", ".play", ".seek"))
    return screen, button, slider


def wait(browser: webdriver.Chrome, until: Any, seconds: float = 10) -> None:
    WebDriverWait(browser, seconds, poll_frequency=0.02).until(lambda _: until())


def test_a_clip_plays_and_pauses(browser: webdriver.Chrome) -> None:
    screen, button, slider = first_player(browser)
    assert button.accessible_name.startswith("Play clip ")
    before = screen.screenshot_as_png
    button.click()
    assert button.accessible_name.startswith("Pause clip ")
    wait(browser, lambda: slider.get_attribute("value") == "3")
    assert screen.screenshot_as_png != before
    button.click()
    held = slider.get_attribute("value")
    assert button.accessible_name.startswith("Play clip ")
    browser.execute_async_script("setTimeout(arguments[0], 500)")  # three frames' time
    assert slider.get_attribute("value") == held


def test_a_clip_is_shown_again_and_again_unless_less_motion_is_asked_for(browser: webdriver.Chrome) -> None:
    _, button, slider = first_player(browser)
    Select(browser.find_element(By.ID, "speed")).select_by_visible_text("2")
    end = str(slider.get_attribute("max"))
    for motion, state in (("no-preference", "Pause"), ("reduce", "Play")):
        look(browser, 1200, prefers_reduced_motion=motion)
        slider.send_keys(Keys.END)
        slider.send_keys(Keys.ARROW_LEFT)
        button.click()
        wait(browser, lambda: slider.get_attribute("value") == end)
        browser.execute_async_script("setTimeout(arguments[0], 300)")
        assert button.accessible_name.startswith(state)
        if state == "Pause":
            wait(browser, lambda: slider.get_attribute("value") != end)
            button.click()


def test_only_one_clip_plays(browser: webdriver.Chrome) -> None:
    buttons = browser.find_elements(By.CSS_SELECTOR, ".play")[:2]
    for button in buttons:
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()
    assert [button.accessible_name.split()[0] for button in buttons] == ["Play", "Pause"]


def test_everything_works_from_the_keyboard(browser: webdriver.Chrome) -> None:
    def press(*keys: str) -> WebElement:
        webdriver.ActionChains(browser).send_keys(*keys).perform()
        return browser.switch_to.active_element

    focused = press(Keys.TAB)
    assert focused.text == "Skip to the contents"
    assert focused.is_displayed()
    press(Keys.ENTER)
    assert browser.current_url.endswith("#main")
    reached: list[str] = []
    for _ in range(60):
        focused = press(Keys.TAB)
        reached.append(focused.get_attribute("id") or focused.get_attribute("class") or focused.tag_name)
        outline = focused.value_of_css_property("outline-style")
        assert outline not in ("none", ""), reached[-1]
        if reached[-1] == "play":
            break
    assert [name for name in reached if name in ("search", "kind", "speed", "play")] == [
        "search", "kind", "speed", "play",
    ]  # fmt: skip
    assert press(" ").accessible_name.startswith("Pause")
    assert press(" ").accessible_name.startswith("Play")
    slider = press(Keys.TAB)
    assert slider.aria_role == "slider"
    assert slider.accessible_name.startswith("Frame of clip ")
    press(Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert slider.get_attribute("aria-valuetext") == f"frame 3 of {slider.get_attribute('max')}"
    press(" ")
    wait(browser, lambda: slider.get_attribute("value") == "4")
    press(" ")


def test_search_and_kinds_filter_the_clips(browser: webdriver.Chrome, run: Run) -> None:
    everything = read_predictions(run.folder / "predictions/stage2.jsonl")
    search, count = browser.find_element(By.ID, "search"), browser.find_element(By.ID, "count")
    kind = Select(browser.find_element(By.ID, "kind"))
    chosen = shown(browser)
    assert 6 <= len(chosen) <= 9
    assert count.text == f"{len(chosen)} of 12 clips"
    kind.select_by_visible_text("worst")
    assert len(shown(browser)) == 3
    assert everything[0].id in shown(browser)  # it said nothing
    kind.select_by_visible_text("all")
    assert sorted(shown(browser)) == sorted(row.id for row in everything)
    word = everything[3].reference.split()[-1]
    search.send_keys(word.upper())
    expected = {row.id for row in everything if word in f"{row.reference} {row.hypothesis}"}
    assert expected <= set(shown(browser)) < {row.id for row in everything} | {""}
    assert count.get_attribute("aria-live") == "polite"
    search.clear()
    search.send_keys(everything[5].id)
    assert everything[5].id in shown(browser)
    assert all(id.startswith(everything[5].id) for id in shown(browser))
    search.clear()
    search.send_keys("no such word")
    assert shown(browser) == []
    assert count.text == "No clip has all of these words."


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_window_is_never_wider_than_itself(browser: webdriver.Chrome, width: int) -> None:
    look(browser, width)
    Select(browser.find_element(By.ID, "kind")).select_by_visible_text("all")
    for details in browser.find_elements(By.TAG_NAME, "details"):
        browser.execute_script("arguments[0].open = true", details)
    browser.execute_script(
        "for (const card of document.querySelectorAll('.card')) card.style.contentVisibility = 'visible'"
    )
    assert fits(browser)


def fits(browser: webdriver.Chrome) -> bool:
    """Whether nothing has to be scrolled sideways."""
    return bool(browser.execute_script("return document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(browser: webdriver.Chrome, scheme: str) -> None:
    """WCAG 2.1, 1.4.3: a contrast of 4.5 at least, of every element that holds text of its own."""
    look(browser, 1200, prefers_color_scheme=scheme)
    page = rgb(browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color"))
    assert (luminance(page) < 0.1) == (scheme == "dark")
    styles = browser.execute_script("""
        const backdrop = (element) => {
          for (; element; element = element.parentElement) {
            const colour = getComputedStyle(element).backgroundColor;
            if (!/, 0\\)$/.test(colour)) return colour;
          }
        };
        return [...document.querySelectorAll('main *')]
          .filter((e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
          .map((e) => [e.outerHTML.slice(0, 80), e.namespaceURI.endsWith('svg') ? getComputedStyle(e).fill
            : getComputedStyle(e).color, backdrop(e)]);""")
    assert len(styles) > 100
    for element, ink, ground in styles:
        lighter, darker = sorted((luminance(rgb(ink)), luminance(rgb(ground))), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (element, ink, ground)


@pytest.mark.parametrize("width", [320, 1200])
def test_labels_of_drawings_can_be_read(browser: webdriver.Chrome, width: int) -> None:
    look(browser, width)
    drawings = browser.execute_script("""
        const box = (element) => element.getBoundingClientRect().toJSON();
        return [...document.querySelectorAll('figure svg')].map(
          (svg) => [box(svg), [...svg.querySelectorAll('text')].map((text) => [text.textContent, box(text)])]);""")
    assert len(drawings) > 10
    for frame, labels in drawings:
        for place, (text, label) in enumerate(labels):
            assert frame["left"] - 1 <= label["left"] <= label["right"] <= frame["right"] + 1, text
            assert frame["top"] - 1 <= label["top"] <= label["bottom"] <= frame["bottom"] + 1, text
            assert label["height"] > 8, text
            for other, beside in labels[:place]:
                across = min(label["right"], beside["right"]) - max(label["left"], beside["left"])
                down = min(label["bottom"], beside["bottom"]) - max(label["top"], beside["top"])
                # A line's box is higher than its letters.
                assert across <= 0 or down <= 0.4 * label["height"], (text, other)


def rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3])
    return red, green, blue


def luminance(colour: tuple[float, float, float]) -> float:
    """Relative luminance, WCAG 2.1."""
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_attention_and_frames_share_their_axis(browser: webdriver.Chrome) -> None:
    card = browser.find_element(By.XPATH, "//li[contains(@class, 'card')][.//div[contains(@class, 'shades')]]")
    browser.execute_script("arguments[0].scrollIntoView()", card)
    thumbs, heat, *pieces = browser.execute_script(
        "return ['.thumbs', '.heat', '.pieces span'].flatMap((name) => [...arguments[0].querySelectorAll(name)])"
        ".map((part) => part.getBoundingClientRect().toJSON())", card,
    )  # fmt: skip
    assert abs(thumbs["x"] - heat["x"]) < 1
    assert abs(thumbs["width"] - heat["width"]) < 1
    assert len(pieces) > 1
    assert abs(heat["height"] - sum(piece["height"] for piece in pieces)) < 1
    slider = card.find_element(By.CSS_SELECTOR, ".seek")
    webdriver.ActionChains(browser).move_to_element_with_offset(
        card.find_element(By.CSS_SELECTOR, ".heat"), int(heat["width"] / 2) - 3, 0
    ).click().perform()
    assert slider.get_attribute("value") == slider.get_attribute("max")


def test_without_script_all_of_it_can_be_read(browser: webdriver.Chrome, page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page.as_uri())
        assert len(shown(browser)) == 12
        assert not browser.find_element(By.ID, "search").is_displayed()
        assert not browser.find_element(By.CSS_SELECTOR, ".play").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_every_part_is_there(browser: webdriver.Chrome, run: Run) -> None:
    headings = [heading.text for heading in browser.find_elements(By.TAG_NAME, "h2")]
    assert headings == ["Scores", "Slices", "Training curves", "Dominance", "Lengths", "Clips", "Provenance"]
    assert len(browser.find_elements(By.CSS_SELECTOR, "[aria-labelledby=dominance] figure")) == 3
    marked = browser.find_elements(By.CSS_SELECTOR, ".card ins")
    assert {mark.text for mark in marked if mark.is_displayed()} >= {"bestimmt"}
    record = json.loads((run.folder / "state/extract.json").read_text())
    assert record["result"]["test"]["fingerprint"] in browser.page_source
    named = [name.text for name in browser.find_elements(By.CSS_SELECTOR, ".provenance dt")]
    assert named == [
        "dataset", "feature fingerprint", "features", "versions", "config", "stage index", "stage tokenizer",
        "stage lm", "stage stage1", "stage extract", "stage stage2", "stage translate", "stage score", "signatures",
    ]  # fmt: skip
    told = browser.find_element(By.CSS_SELECTOR, ".provenance").get_attribute("textContent") or ""
    for expected in ('"torch": ', '"keep_every": 4', "nc:6|nw:0", '"weights": '):
        assert expected in told, expected
    assert len(page_bytes := (run.folder / "report.html").read_bytes()) < 1_000_000, len(page_bytes)


def test_the_strip_holds_what_the_encoder_saw(run: Run) -> None:
    clip = run.clips("test")[0]
    settings = ReportSettings(quality=100, frames=5)
    ((id, strip),) = read_strips(run, [clip], settings)
    seen = read_clip(run.dataset.root, clip, run.experiment.frames)
    assert (id, strip.shown, strip.sampled) == (clip.id, 5, len(seen))
    assert strip.per_second == pytest.approx(25 / 4 * 5 / len(seen), abs=1e-3)
    picture = cv2.imdecode(np.frombuffer(strip.image, np.uint8), cv2.IMREAD_COLOR)
    frames = np.split(picture[..., ::-1], 5, axis=1)
    for frame, place in zip(frames, np.linspace(0, len(seen) - 1, 5).round().astype(int), strict=True):
        differences = np.abs(frame.astype(int) - seen[place].transpose(1, 2, 0))
        assert differences.mean() < 8
    small = draw_strip(seen, 0, ReportSettings(side=16))
    assert cv2.imdecode(np.frombuffer(small.image, np.uint8), cv2.IMREAD_COLOR).shape == (16, 16 * len(seen), 3)


def test_the_report_is_made_where_the_videos_are_not(run: Run, page: Path, tmp_path: Path) -> None:
    whole = page.read_bytes()
    bare = Run(load_config("tiny", [f"data.root={tmp_path}"]), run.folder)
    try:
        made = write_page(bare, rows(run.experiment), ["stage2"]).read_text()
    finally:
        page.write_bytes(whole)
    assert "the videos were not at hand" in made
    assert "data-rate" not in made
    assert "url(data:image/png" in made  # the attention needs features only


def test_anybodys_predictions_have_a_page_too(chromium: webdriver.Chrome, run: Run, tmp_path: Path) -> None:
    files = [run.folder / f"predictions/{row}.jsonl" for row in ("stage2", "text_prior")]
    settings = ScoreSettings(bootstrap=20)
    results = score_files(files, settings, baseline="text_prior", dataset="phoenix14t", language="de_DE")
    path = write_page_of_files(tmp_path / "report.html", results, settings)
    look(chromium, 320)
    chromium.get(path.as_uri())
    assert fits(chromium)
    assert chromium.get_log("browser") == []
    made = path.read_text()
    for expected in (
        "Scores of stage2, text_prior",
        "Against text prior",
        "ours, stage 2",
        "FLa-LLM",
        "bestimmt</ins>",
    ):
        assert expected in made, expected
    assert "the videos were not at hand" in made
