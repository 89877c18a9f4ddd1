"""Discrete Fourier transforms as plans: which frames, which factors, and what they cost.

Knows sizes and constant matrices. Must not know graphs, layers or runtimes.
"""
