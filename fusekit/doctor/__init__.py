"""Examines the installation: what is there, what is missing, whether the core works, and what to do about it.

Knows packages, versions and folders. Must not know how fusekit computes, and imports nothing heavy before it looks:
what is examined may be what cannot be imported.
"""

from fusekit.doctor.examination import Examination, Finding, State

__all__ = ["Examination", "Finding", "State"]
