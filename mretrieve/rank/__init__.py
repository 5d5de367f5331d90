"""Fusion of rankings, and the Retriever that answers queries."""
