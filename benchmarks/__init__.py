"""Benchmarks: each command runs its peers beside us, and its table says whether the results are right."""
