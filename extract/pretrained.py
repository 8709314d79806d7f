"""Pre-trained models by name or folder: from the disk first, from the Hugging Face hub where it can be reached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from extract.errors import InputError

Loaded = TypeVar("Loaded")

_SECONDS = 5


def load_pretrained(load: Callable[..., Loaded], name: str | Path, where: str, expected: str) -> Loaded:
    """What ``load`` (a ``from_pretrained``) gives for a folder, a model of the cache or, last, of the hub.

    The hub is asked once, for seconds, before it is loaded from: the library would try for about a minute. Python code
    that lies beside a model's weights is never run; left to itself the library would ask at the terminal whether to.

    Args:
        where: the setting or option that names the model, for errors.
        expected: what it should be, e.g. ``an encoder-decoder``.

    Raises:
        InputError: nothing there, no network to fetch it with, or files that cannot be used.
    """
    try:
        return load(name, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if Path(name).is_dir() or not (isinstance(error, OSError) and _is_repository(name)):
            raise _unusable(name, where, expected, error) from error
    if not _hub_answers():
        raise InputError(f"{where} = {name}", expected=f"{expected}, in a folder or in the Hugging Face cache",
                         found="neither, and no network", remedy=how_to_fetch(name, where))  # fmt: skip
    try:
        return load(name, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _unusable(name, where, expected, error) from error


def on_this_machine(name: str | Path) -> bool:
    """Whether the weights of a model lie in its folder, or in the Hugging Face cache."""
    if Path(name).is_dir():
        return any(path for pattern in ("*.safetensors", "*.bin") for path in Path(name).glob(pattern))
    from huggingface_hub import try_to_load_from_cache

    return _is_repository(name) and any(
        isinstance(try_to_load_from_cache(str(name), f"{file}{part}"), str)
        for file in ("model.safetensors", "pytorch_model.bin")
        for part in ("", ".index.json")
    )


def how_to_fetch(name: str | Path, where: str) -> str:
    """The commands that bring a model of the hub to a machine without a network."""
    fetch = f"`hf download {name} --exclude '*.h5' '*.msgpack' '*.ot'`"
    folder = Path(name).name
    return (f"Where there is a network: {fetch} fills the cache; with `--local-dir {folder}` besides it fills a "
            f"folder, to be copied here and named instead: {where}=/path/to/{folder}.")  # fmt: skip


def _is_repository(name: str | Path) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented, not in __all__

    try:
        validate_repo_id(str(name))
    except HFValidationError:
        return False
    return True


def _hub_answers() -> bool:
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception:  # of whichever HTTP library it uses, or because HF_HUB_OFFLINE is set
        return False
    return True


def _unusable(name: str | Path, where: str, expected: str, error: Exception) -> InputError:
    said = str(error).strip().splitlines() or [type(error).__name__]
    if Path(name).is_dir():
        return InputError(f"{where} = {name}", expected=expected, found=said[0][:200],
                          remedy="Are all of its files there, and whole?")  # fmt: skip
    if not _is_repository(name):
        return InputError(f"{where} = {name}", expected=f"{expected}: a folder, or a name on the Hugging Face hub",
                          found="no such folder", remedy="Mend the path.")  # fmt: skip
    return InputError(f"{where} = {name}", expected=expected, found=said[0][:200], remedy=how_to_fetch(name, where))
