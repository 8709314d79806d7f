"""The command line in real processes: the whole pipeline in small, again, interrupted, and on bad input."""

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from extract.store import inventory, upkeep
from extract.store.feature_store import FeatureStore
from pipeline.corpus.layout import DATASET_FOLDER, TEXT_FILE

pytestmark = pytest.mark.long

SLT = [sys.executable, "-c", "from pipeline.commands.cli import main; main()"]


def slt(*words: str | Path, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*SLT, *map(str, words)], capture_output=True, text=True, check=False, timeout=280,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def places(corpus: Path) -> list[str]:
    return ["--set", f"data.root={corpus / DATASET_FOLDER}", "--set", f"train.lm.text={corpus / TEXT_FILE}"]


@pytest.fixture(scope="module")
def finished(finished_demo: Path) -> Path:
    return finished_demo


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def states(out: Path, *words: str) -> dict[str, str]:
    done = slt("status", "tiny", "--out", out, *places(out / "corpus"), *words, "--json")
    return {row["stage"]: row["state"] for row in json.loads(done.stdout)}


def test_every_contract_file_is_there(finished: Path) -> None:
    for name in (
        "config.yaml", "index.parquet", "scores.json", "report.html",
        "encoder/config.json", "encoder/model.safetensors", "encoder/provenance.json",
        "lm/model.safetensors", "stage1/model.safetensors", "stage2/model.safetensors",
        "stage2/tokenizer.json", "stage2/provenance.json", "predictions/stage2.jsonl",
    ):  # fmt: skip
        assert (finished / name).is_file(), name
    scores = json.loads((finished / "scores.json").read_text())
    assert set(scores["stage2"]) >= {"bleu1", "bleu2", "bleu3", "bleu4", "rouge", "chrf", "wer", "signature", "n"}
    comparison = json.loads((finished / "comparison.json").read_text())
    assert set(comparison["systems"]["stage2"]) == {"bleu4", "chrf", "rouge"}
    assert comparison["grounding"]["right_clip"] == scores["stage2"]["bleu4"]
    slices = json.loads((finished / "slices.json").read_text())["systems"]
    assert list(slices) == ["stage1", "stage2"]
    assert {
        kind: sum(part["n"] for part in parts) for kind, parts in slices["stage2"]["slices"].items()
    } == dict.fromkeys(
        ["sentence length", "clip length", "signer", "signer seen in train", "sentence seen in train", "rare words"], 12
    )
    assert {row["n"] for row in scores.values()} == {12}
    assert not (finished / "work").exists() or not list((finished / "work").iterdir())
    predictions = [json.loads(line) for line in (finished / "predictions/stage2.jsonl").read_text().splitlines()]
    assert (finished / "translator").readlink() == Path("stage2")  # its name before 0.2
    assert set(predictions[0]) == {"id", "hypothesis", "reference", "n_frames", "score"}
    assert len(predictions) == 12


def test_no_absolute_path_in_what_travels(finished: Path) -> None:
    for name in ("encoder/provenance.json", "stage2/provenance.json", "encoder/config.json"):
        assert str(finished) not in (finished / name).read_text(), name


def test_a_second_run_does_nothing(copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    done = slt("demo", "--preset", "tiny", "--out", copy)
    assert done.stderr.count("up to date") == 9
    assert "scores near 0 are expected" in done.stderr
    assert done.stderr.endswith(f"next: slt translate VIDEO --model {copy}\n")
    after = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    changed = {path.name for path in after if after[path] != before.get(path)}
    assert changed == {"config.yaml"}  # where the corpus lies now
    assert "stage 2" in done.stdout
    assert "text prior" in done.stdout


def test_status_says_what_a_change_makes_stale(finished: Path) -> None:
    assert set(states(finished).values()) == {"done"}
    assert states(finished, "--set", "train.stage2.learning_rate=1e-4") == {
        "index": "done", "tokenizer": "done", "lm": "done", "stage1": "done", "extract": "done", "stage2": "stale",
        "translate": "stale", "score": "stale", "report": "stale",
    }  # fmt: skip
    stale = states(finished, "--set", "frames.resize=40")
    assert (stale["index"], stale["lm"], stale["stage1"], stale["extract"]) == ("done", "done", "stale", "stale")


def test_other_frames_than_the_encoders_are_refused(copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    words = ["tiny", "--out", copy, *places(copy / "corpus"), "--set", "frames.keep_every=2", "--force"]
    refused = slt("extract", *words, code=2)
    assert refused.stderr.splitlines()[-1] == (
        f"error: frames.keep_every: expected 4, as the encoder in {copy / 'encoder'} was trained with, found 2. "
        "Train stage1 again with it (`slt run --from stage1`), or set it back."
    )
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


def test_a_missing_output_is_made_again(copy: Path) -> None:
    before = (copy / "scores.json").read_text()
    (copy / "scores.json").unlink()
    assert states(copy)["score"] == "stale"
    done = slt("run", "tiny", "--out", copy, *places(copy / "corpus"))
    assert done.stderr.count("up to date") == 8  # the same scores: the report is still right
    assert (copy / "scores.json").read_text() == before


def test_a_new_stage_2_leaves_the_features_alone(copy: Path) -> None:
    stores = sorted(copy.glob("features/*/*.zarr/commits/*.json"))
    before = [path.read_bytes() for path in stores]
    done = slt("run", "tiny", "--out", copy, *places(copy / "corpus"), "--set", "train.stage2.steps=2", "--set",
               "train.stage2.evaluate_every=2")  # fmt: skip
    assert "stage2: stage 2" in done.stderr
    assert "(changed: train.stage2)" in done.stderr
    assert not (copy / "translator").is_symlink()  # something else lies there: a folder of an earlier version, say
    assert [path.read_bytes() for path in sorted(copy.glob("features/*/*.zarr/commits/*.json"))] == before


@pytest.mark.slow
@pytest.mark.parametrize("level", ["frame", "states"])
def test_what_is_cached_is_one_config_value(copy: Path, level: str) -> None:
    before = (copy / "predictions/stage1.jsonl").read_text()
    done = slt("run", "tiny", "--out", copy, *places(copy / "corpus"), "--set", f"extract.features={level}", "--json")
    assert "stage1: up to date" in done.stderr
    scores = json.loads(done.stdout)
    assert len(list(copy.glob("features/*/train.zarr"))) == 2  # of two fingerprints, side by side
    # Stage 1 says the same of the same frames, however far they were computed when they were cached.
    hypotheses = [
        [json.loads(line)["hypothesis"] for line in text.splitlines()]
        for text in (before, (copy / "predictions/stage1.jsonl").read_text())
    ]
    assert hypotheses[0] == hypotheses[1]
    assert scores["stage1"]["n"] == 12


@pytest.mark.slow
def test_a_view_that_is_added_is_extracted_alone(copy: Path) -> None:
    (train,) = copy.glob("features/*/train.zarr")
    before = FeatureStore.open(train).load()
    decoded = sum(commit.timings["decode"] for commit in FeatureStore.open(train).commits())
    views = ["--set", "extract.views=[{}, {phase: 1}]"]
    done = slt("run", "tiny", "--out", copy, *places(copy / "corpus"), *views)
    assert "(changed: extract)" in done.stderr
    store = FeatureStore.open(train)
    assert inventory.take(store)[0].views == {"plain": len(before.ids), "phase=1": len(before.ids)}
    assert (store.load(before.ids).array == before.array).all()
    assert sum(commit.timings["decode"] for commit in store.commits()) > decoded
    assert FeatureStore.open(train.with_name("dev.zarr")).views() == ["plain"]
    refused = slt("run", "tiny", "--out", copy, "--set", "extract.views=[{}, {phase: 7}]", code=2)
    assert "phase must be below frames.keep_every" in refused.stderr


def test_a_single_stage_says_what_it_takes_as_it_is(copy: Path) -> None:
    changed = ["--set", "train.lm.steps=3", *places(copy / "corpus")]
    done = slt("score", "tiny", "--out", copy, *changed)
    assert "up to date" in done.stderr
    done = slt("train", "stage2", "tiny", "--out", copy, *changed, "--force")
    assert "lm is stale (changed: train.lm); its result is used as it is" in done.stderr


@pytest.mark.slow
def test_features_of_another_encoder_are_not_translated(copy: Path) -> None:
    """Stage 1 and the extraction are repeated; the translator still knows what it learnt from."""
    changed = [*places(copy / "corpus"), "--set", "frames.resize=40"]
    slt("train", "stage1", "tiny", "--out", copy, *changed)
    stale = slt("translate", "tiny", "--out", copy, *changed, "--force", code=2)
    assert "expected features of" in stale.stderr
    assert "frames.resize 40" in stale.stderr
    slt("extract", "tiny", "--out", copy, *changed)
    refused = slt("translate", "tiny", "--out", copy, *changed, code=2)
    assert "frames.resize 36" in refused.stderr
    assert "found frames.resize 40" in refused.stderr


@pytest.mark.slow
def test_later_stages_need_no_videos(copy: Path) -> None:
    shutil.rmtree(copy / "corpus" / DATASET_FOLDER)
    assert set(states(copy).values()) == {"done"}
    for stage in (["train", "stage2"], ["translate"], ["score"], ["report"]):
        slt(*stage, "tiny", "--out", copy, *places(copy / "corpus"), "--force")
    needs_pixels = slt("extract", "tiny", "--out", copy, *places(copy / "corpus"), "--force", code=2)
    assert "which does not exist" in needs_pixels.stderr


def test_dry_run_writes_nothing(tmp_path: Path, tiny_corpus: Path) -> None:
    done = slt("run", "tiny", "--out", tmp_path / "out", *places(tiny_corpus), "--dry-run")
    assert "missing" in done.stdout
    assert "lacking" not in done.stderr
    absent = ["--set", "data.root=/nowhere", "--set", "train.lm.text=/nowhere.txt"]
    done = slt("run", "tiny", "--out", tmp_path / "out", *absent, "--dry-run")
    assert done.stderr.count("lacking: ") == 2
    done = slt("run", "tiny", "--out", tmp_path / "out", *absent, code=2)
    assert "/nowhere.txt" in done.stderr
    assert "index" not in done.stdout  # before the first stage
    done = slt("demo", "--out", tmp_path / "out", "--preset", "tiny", "--dry-run")
    assert "would be drawn" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path: Path, finished: Path) -> None:
    """SIGKILL of the whole process group at several moments; the last run ends with the same scores."""
    out = tmp_path / "out"
    shutil.copytree(finished / "corpus", out / "corpus")
    for marker in ("lm", "encoder", "features/*/*.zarr/commits"):
        run = subprocess.Popen(
            [*SLT, "demo", "--preset", "tiny", "--out", str(out)], start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while not list(out.glob(marker)):
            assert time.monotonic() < deadline
            assert run.poll() is None
            time.sleep(0.02)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    slt("demo", "--preset", "tiny", "--out", out)
    assert json.loads((out / "scores.json").read_text()) == json.loads((finished / "scores.json").read_text())


def test_the_joint_baseline_is_a_row_of_its_own(copy: Path) -> None:
    """Budgeted by what the factorised run saw; a clip that a worker cannot read is left out, which is one line."""
    joint = ["--set", "train.joint={batch_size: 8, dominance: true, workers: 1, encoder_learning_rate: 1.0e-3}"]
    out = ["--out", copy, *places(copy / "corpus")]
    image = next((copy / "corpus").glob(f"{DATASET_FOLDER}/features/*/train/*/images0001.png"))
    whole = image.read_bytes()
    image.write_bytes(whole[:-20])
    damaged = slt("train", "joint", "tiny", *out, *joint, "--set", "frames.keep_every=1")
    assert f"1 clips cannot be read and are left out ({image.parent.name}: decode: " in damaged.stderr
    assert "Traceback" not in damaged.stderr
    image.write_bytes(whole)
    done = slt("run", "tiny", *out, *joint, "--json")
    assert list(json.loads(done.stdout)) == ["stage1", "stage2", "shuffled", "text_prior", "joint", "constant"]
    assert done.stderr.count("up to date") == 7
    record = json.loads((copy / "state/joint.json").read_text())
    spent = json.loads((copy / "state/stage1.json").read_text())["figures"]["clip_passes"]
    log = json.loads((copy / "logs/stage2.json").read_text())
    clips = json.loads((copy / "stage2/provenance.json").read_text())["clips"]
    spent += clips * next(entry["epoch"] for entry in log if "train_runtime" in entry)
    assert abs(record["figures"]["clip_passes"] - spent) <= 8
    assert (copy / "logs/joint.dominance.parquet").is_file()
    card = (copy / "joint/README.md").read_text()
    scores = json.loads((copy / "scores.json").read_text())
    assert f"| joint | {scores['joint']['bleu1']:.2f} |" in card
    assert "joint" in (copy / "report.html").read_text()
    assert slt("run", "tiny", *out, *joint, "--json").stderr.count("up to date") == 11


def test_cards_tell_data_recipe_scores_and_hashes(finished: Path) -> None:
    scores = json.loads((finished / "scores.json").read_text())
    for name in ("lm", "encoder", "stage1", "stage2"):
        card = (finished / name / "README.md").read_text()
        record = json.loads((finished / name / "provenance.json").read_text())
        head = yaml.safe_load(card.split("---\n")[1])
        assert (head["language"], head["license_name"]) == ("de", "Apache-2.0")
        assert record["files"]["model.safetensors"] in card
        assert "README.md" not in record["files"]
        assert "## Intended use" in card
        assert "## Limits" in card
        assert str(finished) not in card
        yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
        assert {path.suffix for path in (finished / name).iterdir()} <= {".json", ".safetensors", ".md", ".model"}
    card = (finished / "stage2/README.md").read_text()
    assert scores["stage2"]["signature"] in card
    assert f"| {scores['stage2']['bleu4']:.2f} | {scores['stage2']['rouge']:.2f} | 12 |" in card


def test_trained_directories_load_with_the_import_alone_and_never_unpickle(finished: Path) -> None:
    code = """
import pickle, sys, torch
def refuse(*_, **__): raise RuntimeError("unpickled")
pickle.load = pickle.loads = torch.load = refuse
class Refusing(pickle.Unpickler):
    def load(self): refuse()
pickle.Unpickler = Refusing
from pathlib import Path
root = Path(sys.argv[1])
from extract.encoder.visual_encoder import VisualEncoder
from train.models.translator import SignTranslator
encoder = VisualEncoder.from_pretrained(root / "encoder").eval()
features, lengths = encoder(torch.zeros(5, 3, 32, 32, dtype=torch.uint8), [5])
for name in ("stage1", "stage2"):
    model = SignTranslator.from_pretrained(root / name).eval()
    print(model.generate(features=features, lengths=torch.tensor(lengths), num_beams=2, max_new_tokens=4).shape[0])
"""
    done = subprocess.run([sys.executable, "-c", code, str(finished)], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1", "1"], done.stderr


def test_clips_that_fail_are_counted_and_exit_code_3(tmp_path: Path, finished: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    folder = next((out / "corpus").glob(f"{DATASET_FOLDER}/features/*/test/*"))
    (folder / "images0002.png").unlink()
    slt("index", "tiny", "--out", out, *places(out / "corpus"), "--force", code=3)
    shutil.rmtree(out / "features")
    strict = [*places(out / "corpus"), "--set", "extract.max_failure_rate=0"]
    refused = slt("extract", "tiny", "--out", out, *strict, "--force", code=2)
    assert "max_failure_rate" in refused.stderr
    lenient = [*places(out / "corpus"), "--set", "extract.max_failure_rate=0.5"]
    done = slt("extract", "tiny", "--out", out, *lenient, code=3)
    assert "missing 1" in done.stderr
    done = slt("translate", "tiny", "--out", out, *lenient)
    assert "1 without features that the model can take, which count as empty" in done.stderr
    scored = json.loads(slt("score", "tiny", "--out", out, *lenient, "--json").stdout)
    assert {row["n"] for row in scored["scores"].values()} == {12}
    rows = [json.loads(line) for line in (out / "predictions/stage2.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    assert [row["hypothesis"] for row in rows if row["id"] == folder.name] == [""]
    (store,) = out.glob("features/*/test.zarr")
    info = json.loads(slt("features", "info", store, "--json").stdout)
    assert info["clips"] == 11
    assert info["failed"][folder.name]["kind"] == "missing"

    shutil.copy(folder / "images0001.png", folder / "images0002.png")  # mended
    slt("index", "tiny", "--out", out, *lenient, "--force")
    done = slt("extract", "tiny", "--out", out, *lenient, "--retry-failed")
    assert "1 new" in done.stderr
    assert json.loads(slt("features", "info", store, "--json").stdout)["failed"] == {}


def test_verify_finds_a_flipped_byte(copy: Path) -> None:
    (store,) = copy.glob("features/*/test.zarr")
    assert "whole" in slt("features", "verify", store).stdout
    chunk = max(store.glob("blocks/*/features/c/**/*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    assert upkeep.verify(FeatureStore.open(store))
    slt("features", "verify", store, code=2)


def test_gc_spares_the_young_and_removes_the_old(copy: Path) -> None:
    (store,) = copy.glob("features/*/dev.zarr")
    block = next(path for path in (store / "blocks").iterdir() if path.is_dir())
    orphan = Path(shutil.copytree(block, block.with_name(block.name.rsplit("-", 1)[0] + "-interrupted")))
    assert "nothing to remove" in slt("features", "gc", store).stdout
    assert orphan.is_dir()
    assert orphan.name in slt("features", "gc", store, "--grace-hours", "0").stdout
    assert not orphan.exists()
    assert "whole" in slt("features", "verify", store).stdout


def test_score_of_any_predictions_file(finished: Path, tmp_path: Path) -> None:
    path = finished / "predictions/stage2.jsonl"
    measured = json.loads(slt("score", path, "--level", "word", "--json").stdout)
    assert measured["scores"]["stage2"] == json.loads((finished / "scores.json").read_text())["stage2"]
    wrong = slt("score", path, "--level", "wrd", code=2)
    assert "Did you mean 'word'" in wrong.stderr
    (tmp_path / "x.jsonl").write_text("{}\n")
    assert "x.jsonl, line 1" in slt("score", tmp_path / "x.jsonl", code=2).stderr


def test_score_of_systems_against_the_index(finished: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (finished / "predictions/stage2.jsonl").read_text().splitlines()]
    better = tmp_path / "better.csv"
    better.write_text("id,hypothesis\n" + "".join(f'{row["id"]},"{row["reference"]}"\n' for row in rows[1:]))
    words = [finished / "predictions/stage2.jsonl", better, "--references", finished / "index.parquet",
             "--baseline", "stage2", "--dataset", "phoenix14t"]  # fmt: skip
    assert f"{rows[0]['id']}" in slt("score", *words, code=2).stderr
    done = slt("score", *words, "--missing", "empty", "--out", tmp_path / "out", "--json", code=3)
    results = json.loads(done.stdout)
    assert results["missing"] == {"better": 1}
    assert results["scores"]["better"]["n"] == 12
    assert results["comparison"]["systems"]["better"]["rouge"]["difference"] > 50
    assert results["slices"]["language"] == "de_DE"
    assert sum(part["n"] for part in results["slices"]["systems"]["better"]["slices"]["signer seen in train"]) == 12
    assert json.loads((tmp_path / "out/scores.json").read_text()) == results["scores"]


def test_grounding_of_a_translator_directory_alone(finished: Path, tmp_path: Path) -> None:
    (store,) = finished.glob("features/*/test.zarr")
    words = [finished / "stage2", "--features", store, "--index", finished / "index.parquet", "--out", tmp_path]
    done = slt("grounding", *words, "--max-length", "24", "--json")
    for row in ("stage2", "shuffled", "text_prior"):
        ours, theirs = (
            [json.loads(line) for line in (folder / f"predictions/{row}.jsonl").read_text().splitlines()]
            for folder in (tmp_path, finished)
        )
        assert [each["hypothesis"] for each in ours] == [each["hypothesis"] for each in theirs]
    measured = json.loads(done.stdout)["comparison"]["grounding"]
    assert measured == json.loads((finished / "comparison.json").read_text())["grounding"]
    first = slt("grounding", finished / "stage1", *words[1:], "--max-length", "24")
    assert "shuffled = stage 1's translations of other clips" in " ".join(first.stdout.split())
    assert "predictions/stage1.jsonl" in first.stdout + first.stderr
    refused = slt("grounding", finished / "lm" / "nowhere", *words[1:], code=2)
    assert "expected a translator directory" in refused.stderr


def test_score_of_a_config_prints_every_table(finished: Path) -> None:
    done = slt("score", "tiny", "--out", finished, *places(finished / "corpus"), "--format", "markdown")
    for title in ("Scores", "Does it look?", "Against stage 1", "Slices of stage 2", "Words of stage 2"):
        assert f"**{title}**" in done.stdout
    assert "missing" not in slt("score", "tiny", "--out", finished, "--dry-run").stdout
    refused = slt("score", "tiny", "--out", finished, "--baseline", "stage1", code=2)
    assert "--baseline: expected a file of predictions" in refused.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "tiny", "--set", "data.root=/nowhere/to/be/found"], "/nowhere/to/be/found, which does not exist"),
        (["run", "tinny"], "Did you mean 'tiny'"),
        (["train", "lm", "phoenix14t"], "expected a section train.lm, found none"),
        (["train", "joint", "tiny"], "expected a section train.joint, found none. Add `joint: {}` to train"),
        (["run", "tiny", "--set", "train.stage1.stepz=3"], "Did you mean 'steps'"),
        (["demo", "--preset", "huge"], "expected"),
        (["features", "info", "nowhere.zarr"], "expected a feature store, found none"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(tmp_path: Path, words: list[str], says: str) -> None:
    done = slt(*words, *(["--out", str(tmp_path / "out")] if words[0] != "features" else []), code=2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_bad_annotations_leave_nothing_half_written(tmp_path: Path, corpus_copy: Path) -> None:
    annotations = corpus_copy / "annotations/manual/PHOENIX-2014-T.dev.corpus.csv"
    lines = annotations.read_text().splitlines()
    annotations.write_text("\n".join([*lines, lines[1]]) + "\n")
    out = tmp_path / "out"
    done = slt("index", "tiny", "--out", out, *places(corpus_copy.parent), code=2)
    assert "dev.corpus.csv, row 14" in done.stderr
    assert [path.name for path in out.iterdir()] == ["config.yaml"]


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from pipeline.commands.cli import app; import typer; typer.main.get_command(app); "
        "print([m for m in ('torch', 'transformers', 'cv2', 'dask', 'zarr', 'pyarrow', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert "extract" in slt("--help").stdout


def test_help_lists_the_commands_in_the_order_of_use() -> None:
    listed = re.findall(r"^│ (\w+) {2,}", slt("--help").stdout, re.MULTILINE)
    assert listed == [
        "demo", "corpus", "config", "index", "data", "pack", "train", "extract", "translate", "score", "report", "run",
        "status", "features", "ablate", "grounding", "trim",
    ]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), [("visual", "stage1"), ("translate", "stage2")])
def test_old_names_of_training_stages_still_work(tmp_path: Path, old: str, new: str) -> None:
    under_the_new = slt("train", new, "tiny", "--out", tmp_path, "--dry-run", "--json")
    done = slt("train", old, "tiny", "--out", tmp_path, "--dry-run", "--json")
    assert json.loads(done.stdout) == json.loads(under_the_new.stdout)
    assert f"`slt train {old}` is `slt train {new}` now" in done.stderr
    assert old not in re.findall(r"^│ (\w+) {2,}", slt("train", "--help").stdout, re.MULTILINE)


def test_version_is_that_of_the_installation() -> None:
    assert slt("--version").stdout == f"fla-slt {importlib.metadata.version('fla-slt')}\n"
