"""How fast a network is, before and after, and what others make of it.

Knows competitors and clocks. Must not know how a rewrite works.
"""
