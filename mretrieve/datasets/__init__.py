"""Collections, queries, judgements and runs: reading them from files and writing them."""
