"""The command line: `main`, one module a verb, and what they print with."""
