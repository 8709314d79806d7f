"""How it learns: transformers' Trainer with rates by group, dev BLEU-4, probes, plans and budgets."""
