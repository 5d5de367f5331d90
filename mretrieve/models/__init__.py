"""Model architectures and the embedded default model."""
