"""Text to vectors: tokenizers, the ONNX Runtime and torch backends, and the choice between them."""
