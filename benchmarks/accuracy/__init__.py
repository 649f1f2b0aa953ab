"""What `benchmarks/accuracy.py` measures, and how it is written to a page."""
