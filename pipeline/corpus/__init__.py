"""The built-in corpus: an invented sign language about the weather, rendered and written in PHOENIX14T's layout.

Nothing outside this package knows that it is synthetic: it is read by the same adapter, decoder and scores as
real data, and the import contracts keep it that way.
"""
