"""Fixtures that several packages' tests share: a real corpus on disk, made once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import torch
from hypothesis import settings
from moto.server import ThreadedMotoServer

from extract.dataset.clip_index import ClipIndex
from extract.dataset.manifest import Dataset, locate
from extract.encoder.visual_encoder import VisualEncoder
from extract.jobs.index_job import index_dataset
from extract.settings import DataSettings
from pipeline.corpus.layout import DATASET_FOLDER, write_corpus
from pipeline.experiment.config import load_config

settings.register_profile("disk", deadline=None)  # examples wait for disks and other processes
settings.load_profile("disk")


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in corpus in its smallest size; not to be changed by a test."""
    folder = tmp_path_factory.mktemp("corpus") / "tiny"
    write_corpus(folder, "tiny", workers=2)
    return folder


@pytest.fixture(scope="session")
def tiny_dataset(tiny_corpus: Path) -> Dataset:
    return locate(DataSettings(dataset="builtin", root=str(tiny_corpus / DATASET_FOLDER)))


@pytest.fixture(scope="session")
def tiny_index(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> ClipIndex:
    path = tmp_path_factory.mktemp("index") / "index.parquet"
    index_dataset(tiny_dataset, path)
    return ClipIndex(path)


@pytest.fixture
def corpus_copy(tiny_corpus: Path, tmp_path: Path) -> Path:
    """A corpus of its own that a test may damage; its dataset root."""
    return Path(shutil.copytree(tiny_corpus, tmp_path / "corpus")) / DATASET_FOLDER


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an encoder as the config ``tiny`` has it, untrained."""
    torch.manual_seed(0)
    config, folder = load_config("tiny"), tmp_path_factory.mktemp("encoder")
    VisualEncoder.from_settings(config.encoder, config.frames).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of an S3 server on this machine, in the environment of this process and of those it starts."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    absent = str(tmp_path_factory.mktemp("aws") / "none")  # nobody's own settings play a part
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "writer", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": absent, "AWS_SHARED_CREDENTIALS_FILE": absent,
        }.items():  # fmt: skip
            patch.setenv(name, value)
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(object_store: str) -> str:
    """The URL of a new bucket."""
    name = f"slt-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture(scope="session")
def finished_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny demo; not to be changed by a test."""
    out = tmp_path_factory.mktemp("demo") / "out"
    command = [sys.executable, "-m", "pipeline", "demo", "--preset", "tiny", "--json"]
    done = subprocess.run(
        [*command, "--out", str(out)], capture_output=True, text=True, check=False, timeout=280,
        env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(json.loads(done.stdout)) == ["stage1", "stage2", "shuffled", "text_prior", "constant"]
    return out
