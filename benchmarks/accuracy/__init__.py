"""What `benchmarks/accuracy.py` measures, and how it is written down."""
