"""Draws the pictures of the README and of docs/architecture.md, docs/images/*.png.

    python docs/pictures.py                          # writes those of the corpus, the pipeline and the rooms
    python docs/pictures.py runs/demo/report.html    # and that of the report

The report is what `make demo` left; Chromium, which `make browser` installs on Debian, draws it.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
import tomllib
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

ROOT = Path(__file__).parents[1]
HOUSES = {
    "pipeline": (1, 40, 107, 21, "#eeeeee"),
    "extract": (1, 6, 24, 31, "#d6f0d6"),
    "train": (39, 6, 20, 31, "#cfe3f7"),
    "eval": (69, 6, 20, 31, "#f7e7c6"),
}
"""Left, bottom, width, height and colour of each package."""
FILES = (
    ("index.parquet", (25.6, 31), (38.4, 31), "-|>"),
    ("encoder/", (25.6, 22), (38.4, 22), "<|-"),
    ("features/*.zarr", (25.6, 13), (38.4, 13), "-|>"),
    ("stage1/,\nstage2/", (59.6, 22), (68.4, 22), "-|>"),
    ("index.parquet, features/*.zarr", (13, 5.4), (79, 5.4), "-|>"),
    ("predictions/*.jsonl", (89.6, 31), (108, 31), "<|-|>"),
    ("scores.json", (89.6, 22), (108, 22), "<|-|>"),
    ("report.html", (89.6, 13), (108, 13), "-|>"),
)
"""What the packages write and read: name, two ends, and where the heads are."""


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


def rooms() -> None:
    """The packages with their floors, as import-linter's contracts have them, and the files between the stages."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    floors = {one["containers"][0]: one["layers"] for one in contracts if "containers" in one}
    figure, axes = plt.subplots(figsize=(11, 6.2))
    for package, (x, y, width, height, colour) in HOUSES.items():
        axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.4", fc=colour, ec="#444444"))
        axes.text(x + width / 2, y + height - 1.2, package, ha="center", va="center", fontsize=11, weight="bold")
        tall = (height - 3) / len(floors[package])
        for level, floor in enumerate(floors[package]):
            names = floor.split(" | ")
            if not (ROOT / package / names[0]).is_dir():  # modules beside the folders share one box
                names = [textwrap.fill(", ".join(names), int(width * 1.6))]
            size = 8.5 if len(names[0]) < 40 else 7
            for place, name in enumerate(names):
                left, wide, top = x + place * width / len(names), width / len(names), y + height - 3 - level * tall
                axes.add_patch(
                    plt.Rectangle((left + 0.3, top - tall + 0.3), wide - 0.6, tall - 0.5, fc="white", ec="#aaaaaa")
                )
                axes.text(
                    left + wide / 2, top - tall / 2, name, ha="center", va="center", fontsize=size, linespacing=1.1
                )
    for name, start, end, heads in FILES:
        below = end[0] - start[0] > 20  # it passes a package
        bend = "bar,fraction=0.05" if below else "arc3"
        axes.annotate("", end, start, arrowprops={"arrowstyle": heads, "color": "#444444", "connectionstyle": bend})
        axes.text((start[0] + end[0]) / 2, start[1] + (-2.8 if below else 0.5), name, ha="center", va="bottom",
                  fontsize=8.5, family="monospace")  # fmt: skip
    axes.set_xlim(0, 110)
    axes.set_ylim(0, 62)
    axes.axis("off")
    figure.tight_layout(pad=0.2)
    figure.savefig(FOLDER / "rooms.png", dpi=110)


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
    rooms()
    for given in sys.argv[1:]:
        report(Path(given))
