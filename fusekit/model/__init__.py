"""A module and its inputs as values: example inputs, traced programs, runs in float64.

Knows torch. Must not know graphs, laws or runtimes.
"""
