"""Products with fewer multiplications: bilinear algorithms, Winograd filters, layers over an algebra.

Knows tensors and structure constants. Must not know graphs, layers or runtimes.
"""
