"""The manifest of datasets: its schema, who may override what, and errors that name the place."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extract.dataset.adapters import load_adapter
from extract.dataset.manifest import load_manifest, locate, manifest_schema
from extract.dataset.text_convention import conventional
from extract.errors import InputError
from extract.settings import DataSettings

REPOSITORY = Path(__file__).parents[3]


def test_the_schema_is_up_to_date() -> None:
    assert (REPOSITORY / "data_manifest.schema.json").read_text() == manifest_schema()


def test_every_entry_has_a_registered_adapter() -> None:
    for entry in load_manifest().values():
        load_adapter(entry.adapter).Options.model_validate(entry.options)


def write(path: Path, **fields: object) -> Path:
    path.write_text(yaml.safe_dump({"datasets": {"phoenix14t": fields}}))
    return path


def test_roots_from_the_last_word_to_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("shell", "config", "local", "current", "beside"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.delenv("SLT_DATA_PHOENIX14T", raising=False)
    data, beside = DataSettings(dataset="phoenix14t"), tmp_path / "beside"
    monkeypatch.setenv("PHOENIX14T_ROOT", str(tmp_path))
    assert locate(data, beside=beside).root == tmp_path
    write(tmp_path / "current/data_manifest.local.yaml", root="../local")
    assert locate(data, beside=beside).root.resolve() == tmp_path / "local"
    write(beside / "data_manifest.local.yaml", root=str(tmp_path / "beside"))
    assert locate(data, beside=beside).root == tmp_path / "beside"
    monkeypatch.setenv("SLT_DATA_PHOENIX14T", str(tmp_path / "shell"))
    assert locate(data, beside=beside).root == tmp_path / "shell"
    assert locate(data.model_copy(update={"root": str(tmp_path / "config")}), beside=beside).root == tmp_path / "config"


def test_a_local_file_changes_what_it_names_only(tmp_path: Path) -> None:
    shipped = load_manifest()["phoenix14t"]
    local = load_manifest(None, [write(tmp_path / "x.yaml", text={"final_dot": "strip"})])["phoenix14t"]
    assert local.text.final_dot == "strip"
    assert local.model_copy(update={"text": shipped.text}) == shipped


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "datasets: {phoenix14t: {rot: x}}",
            r"datasets\.phoenix14t\.rot: expected a known field, found 'rot'. Did you mean 'root'",
        ),
        ("datasets: {phoenix14t: {text: {cas: keep}}}", r"phoenix14t\.text\.cas: .* Did you mean 'case'"),
        (
            "datasets: {phoenix14t: {text: {case: upper}}}",
            r"phoenix14t\.text\.case: expected a valid entry, found Input",
        ),
        ("datasets: {phoenix14t: {splits: {val: 3}}}", r"phoenix14t\.splits\.val: expected a valid entry"),
        ("datasets: {phoenix14t: {fps: 0, level: x}}", r"And 1 more\."),
        ("datasets: {mine: {root: x}}", r"datasets\.mine\.adapter: expected a value of adapter, found none"),
        ("datasets: [1]", r"expected a manifest with one mapping `datasets`"),
        ("datasets: {x: 1}", r"datasets\.x: expected a mapping of a name to fields, found int"),
        ("data: {}", r"found data"),
        ("", r"found NoneType"),
        ("a: [", r"expected a manifest, found while parsing"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InputError, match=says) as raised:
        load_manifest(None, [tmp_path / "x.yaml"])
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)


@given(st.text(), st.sampled_from(["keep", "lower"]), st.sampled_from(["keep", "strip"]))
def test_a_convention_applied_twice_changes_nothing_more(text: str, case: str, dot: str) -> None:
    once = conventional(text, case, dot)  # type: ignore[arg-type]
    assert " ".join(once.split()) == once
    if dot == "strip":
        assert not once.endswith((".", "。"))
    if text.isascii():
        assert conventional(once, case, dot) == once  # type: ignore[arg-type]
