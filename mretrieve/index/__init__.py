"""FAISS, Lucene, the document store, the manifest, and building them so that a crash costs little."""
