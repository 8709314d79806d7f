"""``python -m pipeline`` is ``slt``: ``torchrun --nproc-per-node 2 -m pipeline train translate CONFIG``."""

from pipeline.commands.cli import main

main()
