"""What learns: the translator, language models and their tokenizers, and losses that are modules."""
