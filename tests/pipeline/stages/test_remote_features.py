"""The command line with its features in a bucket, from the corpus to the translations."""

import json
import os
import subprocess
import sys

import boto3
import pytest

from pipeline.corpus.layout import DATASET_FOLDER, TEXT_FILE

SLT = [sys.executable, "-c", "from pipeline.commands.cli import main; main()"]


def slt(*words, code=0):
    done = subprocess.run(
        [*SLT, *map(str, words)], capture_output=True, text=True, check=False, timeout=280,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_every_stage_works_on_features_in_a_bucket(bucket, tmp_path):
    out, where = tmp_path / "out", ["--set", f"extract.store={bucket}/features/"]
    done = slt("demo", "--preset", "tiny", "--out", out, *where)
    assert f"clips in {bucket}/features/" in done.stderr
    assert not (out / "features").exists()
    record = json.loads((out / "state/extract.json").read_text())
    url = next(name for name in record["outputs"] if name.endswith("/test.zarr"))
    assert url.startswith(f"{bucket}/features/")

    facts = json.loads(slt("features", "info", url, "--json").stdout)
    assert (facts["clips"], facts["failures"], facts["orphans"]) == (12, 0, 0)
    assert slt("features", "verify", url).stdout.strip() == f"{url}: whole"
    assert slt("features", "gc", url, "--grace-hours", "0").stdout.strip() == f"{url}: nothing to remove"

    data = [
        "--set",
        f"data.root={out / 'corpus' / DATASET_FOLDER}",
        "--set",
        f"train.lm.text={out / 'corpus' / TEXT_FILE}",
    ]
    states = json.loads(slt("status", "tiny", "--out", out, *where, *data, "--json").stdout)
    assert {row["state"] for row in states if row["stage"] != "index"} == {"done"}

    # A store that is gone is noticed, and made again with the same features.
    s3, name = boto3.client("s3"), bucket.removeprefix("s3://")
    for item in s3.list_objects_v2(Bucket=name)["Contents"]:
        if "/test.zarr/" in item["Key"]:
            s3.delete_object(Bucket=name, Key=item["Key"])
    again = slt("extract", "tiny", "--out", out, *where, *data, "--json")
    figures = json.loads(again.stdout)["figures"]
    assert {split: (f["clips"], f["extracted"], f["skipped"]) for split, f in figures.items()} == {
        "train": (48, 0, 48), "dev": (12, 0, 12), "test": (12, 12, 0),
    }  # fmt: skip
    assert set(figures["test"]) == {
        "clips", "extracted", "skipped", "failed", "frames", "seconds", "clips_per_second", "frames_per_second",
        "steady_frames_per_second", "start_up_seconds", "tail_seconds", "shares",
    }  # fmt: skip
    assert "frames/s; read " in again.stderr
    assert "gone: s3://" in again.stderr
    assert json.loads((out / "state/extract.json").read_text())["result"] == record["result"]
    translated = slt("translate", "tiny", "--out", out, *where, *data, "--force")
    assert "12 clips, beam 5" in translated.stderr

    wrong = ["--set", "extract.store=s3://no-such-bucket"]
    refused = slt("extract", "tiny", "--out", out, *wrong, *data, code=2)
    assert refused.stderr.splitlines()[-1].startswith("error: s3://no-such-bucket/")
    assert "bucket does not exist" in refused.stderr.splitlines()[-1]
