"""Indexes that live in Milvus: for collections too large for one machine, or in a file by Milvus Lite."""
