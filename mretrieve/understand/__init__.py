"""Look into sparse encoders, and cut smaller ones out of them: routing by language, pruning, trimming."""
