"""What NAG costs: `python -m benchmarks` prints a table of times and operations; README.md has the rest."""
