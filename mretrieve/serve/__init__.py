"""Serving: one HTTP server for embeddings, hybrid search and reranking."""
