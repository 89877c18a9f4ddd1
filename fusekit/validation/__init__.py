"""Whether two things compute the same, judged by a run in float64.

Knows modules, files and numbers. Must not know how one was made of the other.
"""
