"""match -> propose -> cost -> verify -> commit: the one driver of all laws.

Knows patterns, prices and the float64 check of a region. Must not know any single law, or which runtime is meant.
"""
