"""The options of `slt extract` that say where it runs."""

import os
import subprocess
import sys

from extract.settings import ClusterSettings, ExtractSettings
from pipeline.experiment.freshness import deciding

SLT = [sys.executable, "-c", "from pipeline.commands.cli import main; main()"]
SLURM = ["--cluster", "slurm", "--set", "extract.cluster.cores=4", "--set", "extract.cluster.memory=16GB"]


def extract(*words, code):
    done = subprocess.run(
        [*SLT, "extract", "tiny", *words], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_a_dry_run_shows_the_job_script(tmp_path):
    done = extract("--out", tmp_path, *SLURM, "--set", "extract.cluster.queue=gpu", "--dry-run", code=0)
    assert "#SBATCH -p gpu" in done.stdout.splitlines()
    assert "#SBATCH --cpus-per-task=4" in done.stdout.splitlines()
    assert list(tmp_path.iterdir()) == []


def test_options_that_cannot_be_are_one_line_each(tmp_path):
    done = extract("--out", tmp_path, "--cluster", "slurm", "--dry-run", code=2)
    assert "extract.cluster: type slurm needs cores and memory" in done.stderr
    done = extract("--out", tmp_path, *SLURM, "--scheduler", "tcp://127.0.0.1:1", "--dry-run", code=2)
    assert "scheduler and cluster exclude each other" in done.stderr
    assert done.stderr.count("\n") == 1


def test_where_it_runs_makes_nothing_stale():
    here = ExtractSettings()
    there = ExtractSettings(scheduler="tcp://a:1", wait_seconds=5, workers=3)
    started = ExtractSettings(cluster=ClusterSettings(type="slurm", cores=1, memory="1GB"))
    assert deciding(here) == deciding(there) == deciding(started)
    assert deciding(here) != deciding(ExtractSettings(store="s3://bucket"))
