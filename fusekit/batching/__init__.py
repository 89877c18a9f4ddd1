"""Many models at once: a manifest of items, each exported and validated by a worker, and a table of the results.

Knows manifests, workers, clusters and what was done before. Must not know how a model is optimized.
"""
