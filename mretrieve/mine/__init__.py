"""Material for training: hard negatives mined from an index, and texts translated into other languages."""
