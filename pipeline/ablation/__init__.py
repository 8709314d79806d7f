"""``slt ablate``: the paper's ablations as tables of runs that share whatever they can."""
