"""How torch and transformers behave while a stage learns or translates."""

from __future__ import annotations

import os

from pipeline.experiment.run import Run


def prepare_torch(run: Run, stage: str = "") -> None:
    """Threads as the config says, no bars or warnings of transformers between ours, and TensorBoard's files, where a
    stage writes some, beside the other logs: checkpoints, where they would lie, go when the stage is done."""
    import torch

    quiet_transformers()
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(run.folder.absolute() / "logs" / "tensorboard" / stage)
    if run.experiment.train.threads:
        torch.set_num_threads(run.experiment.train.threads)


def quiet_transformers() -> None:
    """No bars or warnings of transformers between ours."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
