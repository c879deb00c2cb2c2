"""What a model can do: benchmarks read, answers scored, results compared."""
