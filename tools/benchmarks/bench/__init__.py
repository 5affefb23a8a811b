"""What the benchmarks share; each module holds one idea."""
