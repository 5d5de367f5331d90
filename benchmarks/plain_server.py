"""The server that anybody would write first: FastAPI around sentence-transformers in bfloat16.

A peer of `benchmarks/serve.py`, which starts it: `python benchmarks/plain_server.py FOLDER PORT`.
"""

import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Request(BaseModel):
    """OpenAI's, as far as it is used here."""

    input: str | list[str]
    model: str = ""


def main() -> None:
    """Serve until killed."""
    folder, port = sys.argv[1:]
    model = SentenceTransformer(folder, device="cpu", model_kwargs={"torch_dtype": torch.bfloat16})
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/embeddings")
    def embed(request: Request) -> dict[str, Any]:
        texts = [request.input] if isinstance(request.input, str) else request.input
        vectors = model.encode(texts, normalize_embeddings=True, convert_to_tensor=True).float().tolist()
        data = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(vectors)]
        return {"object": "list", "data": data, "model": request.model, "usage": {}}

    uvicorn.run(app, port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
