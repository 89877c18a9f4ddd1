"""The command line: turns arguments into calls of fusekit, and results into text or JSON.

Knows options, exit codes and the terminal. Must not know how anything is computed; no other room imports it.
"""
