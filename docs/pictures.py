"""Draws the pictures of the README, docs/images/*.png.

    python docs/pictures.py                          # writes those of the corpus and the pipeline
    python docs/pictures.py runs/demo/report.html    # and that of the report

The report is what `make demo` left; Chromium, which `make browser` installs on Debian, draws it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from pipeline.corpus.grammar import Meaning, sentence
from pipeline.corpus.lexicon import lexicon
from pipeline.corpus.motion import poses
from pipeline.corpus.signer import Canvas, Look

FOLDER = Path(__file__).with_name("images")
WINDOW = {"width": 620, "height": 660, "deviceScaleFactor": 1, "mobile": False}
"""Of the browser, on the report."""
SAID = (
    Meaning("MONTAG", "NORD", "REGEN", "STARK"),
    Meaning(None, "KUESTE", degrees=25),
    Meaning("NACHT", None, "NEBEL", None),
)


def corpus() -> None:
    """Three clips, one of four frames kept, with their signs and their German sentence."""
    rng = np.random.default_rng(1)
    figure, rows = plt.subplots(len(SAID), 1, figsize=(11, 4.0))
    for number, (axes, meaning) in enumerate(zip(rows, SAID, strict=True)):
        look = Look.draw(0, number + 3)
        canvas = Canvas(look, 105, 130, (0.0, 0.0), 1.0)
        moving = poses([lexicon(0)[sign] for sign in meaning.signs()], look, rng)
        frames = [canvas.draw(pose)[..., ::-1] for pose in moving[::4]][:14]
        blank = np.full_like(frames[0], 255)
        axes.imshow(np.concatenate(frames + [blank] * (14 - len(frames)), axis=1), interpolation="antialiased")
        axes.set_title(f"{' '.join(meaning.signs())}   →   {sentence(meaning, rng)}", loc="left", fontsize=11)
        axes.axis("off")
    figure.tight_layout()
    figure.savefig(FOLDER / "corpus.png", dpi=110)


def pipeline() -> None:
    """The stages and the files between them."""
    boxes = [
        ("clips\nframes or video", 0.2, "#e8e8e8"),
        ("stage 1\nvisual initialing\nencoder + Light-T", 2.55, "#cfe3f7"),
        ("extraction\nDask, frozen encoder,\nevery clip once", 4.9, "#d6f0d6"),
        ("stage 2\nLLM fine-tuning\nadapter + mBART", 7.25, "#cfe3f7"),
        ("translate, score\nBLEU, ROUGE,\nsanity rows", 9.6, "#f7e7c6"),
    ]
    files = ["index.parquet", "encoder/", "features/*.zarr", "stage2/"]
    figure, axes = plt.subplots(figsize=(11, 1.9))
    for text, x, colour in boxes:
        axes.add_patch(FancyBboxPatch((x, 0.3), 1.7, 1.0, boxstyle="round,pad=0.08", fc=colour, ec="#444444"))
        axes.text(x + 0.85, 0.8, text, ha="center", va="center", fontsize=9)
    for (_, x, _), name in zip(boxes, files, strict=False):
        axes.annotate("", (x + 2.25, 0.8), (x + 1.8, 0.8), arrowprops={"arrowstyle": "-|>", "color": "#444444"})
        axes.text(x + 2.03, 1.55, name, ha="center", fontsize=9, family="monospace")
    axes.set_xlim(0, 11.5)
    axes.set_ylim(0.1, 1.8)
    axes.axis("off")
    figure.tight_layout(pad=0.2)
    figure.savefig(FOLDER / "pipeline.png", dpi=110)


def report(page: Path) -> None:
    """Two windows of a report beside each other: its beginning, and a clip of the worst in the middle of its frames."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", WINDOW)
        browser.get(page.resolve().as_uri())
        shots = [browser.get_screenshot_as_png()]
        browser.execute_script(
            "const card = document.querySelector('[data-kinds~=worst]'), seek = card.querySelector('.seek');"
            "seek.value = Math.ceil(seek.max / 2); seek.dispatchEvent(new Event('input'));"
            "card.scrollIntoView(); scrollBy(0, -12);"
        )
        shots.append(browser.get_screenshot_as_png())
    finally:
        browser.quit()
    panes = [cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR) for shot in shots]
    panes.insert(1, np.full_like(panes[0][:, :2], 128))
    cv2.imwrite(str(FOLDER / "report.png"), cv2.hconcat(panes), [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    corpus()
    pipeline()
    for given in sys.argv[1:]:
        report(Path(given))
