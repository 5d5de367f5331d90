"""Training by recipes of stages, built on sentence-transformers' trainer and losses."""
