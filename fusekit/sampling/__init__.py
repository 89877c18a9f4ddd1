"""Example inputs and arguments of a factory, as people write them in one word each: parsed, then made.

Knows words, arrays and random numbers. Must not know who asks, the command line or a manifest.
"""
