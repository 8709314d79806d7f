"""Fixtures that several packages' tests share: a real corpus on disk, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from extract.index import ClipIndex
from extract.indexing import index_dataset
from extract.manifest import Dataset, locate
from extract.settings import DataSettings
from pipeline.corpus.layout import DATASET_FOLDER, write_corpus


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
