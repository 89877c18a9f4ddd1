"""The command line: words to calls, and calls to what a person reads.

Knows options, exit codes and the terminal. Must not know how anything is computed; nothing imports it.
"""
