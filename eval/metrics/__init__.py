"""The metrics: BLEU, ROUGE-L, WER and others on the text that a convention leaves, and their bootstrap."""
