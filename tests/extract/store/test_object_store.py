"""Feature stores in an S3 bucket: a server on this machine, real requests, real processes, real credentials."""

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

import boto3
import numpy as np
import pytest

from extract.errors import InputError
from extract.jobs.cluster import local_cluster
from extract.jobs.extract_job import extract_split
from extract.settings import ExtractSettings
from extract.store import inventory, upkeep
from extract.store.feature_store import FeatureStore
from extract.store.json_records import Failure

REPOSITORY = Path(__file__).parents[3]
PROVENANCE = {"schema": "s", "weights": "w"}
ROWS = np.arange(12, dtype=np.float16).reshape(3, 4)
SETTINGS = ExtractSettings(dtype="float32", batch_frames=16, block_frames=1)  # a block per clip


def in_process(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Another Python process, which sees the same endpoint."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], capture_output=True, text=True,
        check=False, timeout=120, env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
    )  # fmt: skip


WRITE = """
    import sys
    import numpy as np
    from extract.store.feature_store import FeatureStore

    if __name__ == "__main__":
        store = FeatureStore.open(sys.argv[1])
        store.write_block("b" + sys.argv[2], [(sys.argv[2], np.ones((2, 4), "f2"))])
"""


@pytest.fixture
def store(bucket):
    return FeatureStore.create(f"{bucket}/some/prefix/train.zarr", PROVENANCE, 4, "float16")


@pytest.fixture
def requests(store):
    """Method and path of each request from here on, as the server logs them."""
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage().split('"')[1].rpartition(" ")[0])  # type: ignore
    logger = logging.getLogger("werkzeug")
    logger.addHandler(handler)
    yield seen
    logger.removeHandler(handler)


def test_what_is_written_is_read(store):
    store.write_block("b", [("x", ROWS), ("y", ROWS[:1])], {"z": Failure("decode", "a.png: no image")})
    found = FeatureStore.open(store.location)
    np.testing.assert_array_equal(found["x"], ROWS, strict=True)
    assert found.lengths() == {"x": 3, "y": 1}
    assert found.failures() == {"z": Failure("decode", "a.png: no image")}
    assert upkeep.verify(found) == []
    store.forget_failures(["z"])
    assert FeatureStore.open(store.location).failures() == {}


def test_commits_of_other_processes_are_seen_although_the_bucket_was_listed_before(store):
    assert store.lengths() == {}
    for name in ("one", "two"):
        done = in_process(WRITE, store.location, name)
        assert (done.returncode, done.stderr) == (0, "")
        assert name in FeatureStore.open(store.location).lengths()


def test_a_commit_is_one_put_after_all_else(store, requests):
    store.write_block("b", [("x", ROWS)])
    puts = [line for line in requests if line.startswith(("PUT", "POST"))]
    assert puts[-1].endswith("/commits/b.json")
    assert sum("/commits/" in line for line in puts) == 1


@pytest.mark.long
def test_commits_are_listed_in_pages_and_not_asked_for_one_by_one(store, requests):
    for number in range(30):
        store.write_block(f"b{number}", [(f"x{number}", ROWS)])
    requests.clear()
    assert len(FeatureStore.open(store.location).lengths()) == 30
    assert [line for line in requests if line.startswith("HEAD")] == []
    assert sum("list-type" in line for line in requests) == 1
    assert len(requests) == 32  # attributes, list, one GET per commit


def test_damage_and_orphans_are_found(store):
    store.write_block("b", [("x", ROWS)])
    s3 = boto3.client("s3")
    name, _, prefix = store.location.removeprefix("s3://").partition("/")
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=name)["Contents"]]
    (chunk,) = [key for key in keys if "features/c/" in key]
    data = s3.get_object(Bucket=name, Key=chunk)["Body"].read()
    s3.put_object(Bucket=name, Key=chunk, Body=data[:-1] + bytes([data[-1] ^ 1]))
    (problem,) = upkeep.verify(FeatureStore.open(store.location))
    assert chunk.split("/")[-5] in problem
    s3.delete_object(Bucket=name, Key=f"{prefix}/commits/b.json")
    again = FeatureStore.open(store.location)
    assert inventory.take(again)[0].orphans == 1
    assert upkeep.gc(again, 3600) == []
    assert len(upkeep.gc(again, 0)) == 1
    assert not [i for i in s3.list_objects_v2(Bucket=name)["Contents"] if "/blocks/b" in i["Key"]]


FORK = """
    import os
    import sys
    from extract.store.feature_store import FeatureStore

    assert FeatureStore.open(sys.argv[1])["x"].sum() == 66
    child = os.fork()  # as a data loader does
    if child == 0:
        os._exit(int(FeatureStore.open(sys.argv[1])["x"].sum()))
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_opens_the_store_that_its_parent_has_used(store):
    store.write_block("b", [("x", ROWS)])
    assert in_process(FORK, store.location).returncode == 66


# What cannot be reached


def test_a_bucket_that_does_not_exist(object_store):
    with pytest.raises(InputError, match=r"s3://no-such-bucket/a/train\.zarr: .*bucket does not exist") as error:
        FeatureStore.create("s3://no-such-bucket/a/train.zarr", PROVENANCE, 4, "float16")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="expected a feature store, found none"):
        FeatureStore.open("s3://no-such-bucket/a/train.zarr")


OPEN = """
    import sys
    from extract.errors import SltError
    from extract.store.feature_store import FeatureStore

    try:
        FeatureStore.open(sys.argv[1])
    except SltError as error:
        sys.exit(str(error))
"""


@pytest.mark.long
def test_an_endpoint_that_does_not_answer(store):
    done = in_process(OPEN, store.location, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "EndpointConnectionError" in done.stderr
    assert "AWS_ENDPOINT_URL" in done.stderr


def test_no_credentials(store):
    done = in_process(OPEN, store.location, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Unable to locate credentials" in done.stderr


def test_an_unknown_kind_of_url():
    with pytest.raises(InputError, match="Protocol not known: s4"):
        FeatureStore.open("s4://bucket/train.zarr")


@pytest.fixture
def reader(store, object_store):
    """Keys of a user who may read the bucket and nothing else, on a server that now enforces it."""
    name = store.location.split("/")[2]
    iam = boto3.client("iam")
    user = f"reader-{name}"
    iam.create_user(UserName=user)
    allowed = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_user_policy(UserName=user, PolicyName="read", PolicyDocument=policy)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    enforce(object_store, "0")
    yield {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    enforce(object_store, "inf")


def enforce(endpoint: str, after: str) -> None:
    """Ask the server to check permissions after so many requests."""
    request = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", after.encode(), {"Content-Type": "text/plain"})
    urllib.request.urlopen(request, timeout=30).close()


def test_who_may_only_read_reads_and_is_told_that_writing_is_not_allowed(store, reader):
    enforce(os.environ["AWS_ENDPOINT_URL"], "inf")
    store.write_block("b", [("x", ROWS)])
    enforce(os.environ["AWS_ENDPOINT_URL"], "0")
    read = in_process(
        "import sys\nfrom extract.store import inventory, upkeep\n"
        "from extract.store.feature_store import FeatureStore\ns = FeatureStore.open(sys.argv[1])\n"
        "print(s['x'].tolist(), upkeep.verify(s), s.failures(), inventory.take(s)[0].clips)", store.location, **reader,
    )  # fmt: skip
    assert (read.returncode, read.stderr) == (0, "")
    assert read.stdout.strip() == f"{ROWS.tolist()} [] {{}} 1"
    write = in_process(WRITE, store.location, "y", **reader)
    assert write.returncode == 1
    assert "InputError: s3://" in write.stderr.splitlines()[-1]
    assert "AccessDenied" in write.stderr.splitlines()[-1] or "PermissionError" in write.stderr.splitlines()[-1]
    enforce(os.environ["AWS_ENDPOINT_URL"], "inf")
    assert FeatureStore.open(store.location).lengths() == {"x": 3}


# The job

RUN = """
    import sys
    from extract.jobs.cluster import local_cluster
    from extract.dataset.clip_index import ClipIndex
    from extract.jobs.extract_job import extract_split
    from extract.settings import ExtractSettings

    if __name__ == "__main__":
        index, root, encoder, store, settings = sys.argv[1:]
        clips = ClipIndex(index, "test").clips()
        with local_cluster(1) as client:
            extract_split(
                clips, len(clips), root, encoder, store, ExtractSettings.model_validate_json(settings), client
            )
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was_and_gives_what_a_local_run_gives(
    bucket, tiny_dataset, tiny_index, tiny_encoder, tmp_path
):
    clips = [clip for clip in tiny_index.clips() if clip.split == "test"]
    url = f"{bucket}/features/test.zarr"
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(RUN))
    command = [sys.executable, script, tiny_index.path, tiny_dataset.root, tiny_encoder, url,
               SETTINGS.model_dump_json()]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)}
    s3, name = boto3.client("s3"), bucket.removeprefix("s3://")
    with subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 180
        while not s3.list_objects_v2(Bucket=name, Prefix="features/test.zarr/commits/").get("KeyCount"):
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)

    killed = FeatureStore.open(url)
    done = killed.lengths()
    assert 0 < len(done) < len(clips)
    assert upkeep.verify(killed) == []
    local = tmp_path / "local.zarr"
    with local_cluster(2) as client:
        again = extract_split(clips, len(clips), tiny_dataset.root, tiny_encoder, url, SETTINGS, client)
        extract_split(clips, len(clips), tiny_dataset.root, tiny_encoder, local, SETTINGS, client)
    assert (again.skipped, again.extracted) == (len(done), len(clips) - len(done))
    store, undisturbed = FeatureStore.open(url), FeatureStore.open(local)
    assert upkeep.verify(store) == []
    assert sorted(store.lengths()) == sorted(undisturbed.lengths())
    for clip in clips:
        np.testing.assert_array_equal(store[clip.id], undisturbed[clip.id], strict=True)
