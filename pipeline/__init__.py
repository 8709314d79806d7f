"""The roof: experiment config, stage order and freshness, command line, built-in corpus."""
