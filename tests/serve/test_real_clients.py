"""The clients that applications have: openai, LangChain, LlamaIndex."""

import asyncio

import numpy as np
import pytest

from mretrieve import Encoder
from mretrieve.serve import tokens

openai = pytest.importorskip("openai")

SENTENCES = ["Where does the river rise?", "ينبع النهر من الجبال العالية.", "แม่น้ำไหลลงมาจากภูเขาสูง"]


@pytest.fixture(scope="module")
def encoder(e5_folder):
    return Encoder("e5-small")


def close_to(vectors, expected, *, within=2e-4):
    assert (np.asarray(vectors, np.float32) * expected).sum(axis=1) == pytest.approx(1, abs=within)


@pytest.fixture
def client(e5):
    with openai.OpenAI(base_url=f"{e5.url}/v1", api_key="none", max_retries=0) as one:
        yield one


def test_openai(client, encoder):
    reply = client.embeddings.create(model="e5-small", input=SENTENCES)  # asks for base64
    close_to([one.embedding for one in reply.data], encoder.encode_documents(SENTENCES))
    assert reply.usage.total_tokens == sum(encoder.count_tokens(SENTENCES))
    reply = client.embeddings.create(model="e5-small:query", input=SENTENCES[0], encoding_format="float")
    close_to([reply.data[0].embedding], encoder.encode_queries(SENTENCES[:1]))


def test_openai_lists_models(client):
    assert "e5-small:query" in [model.id for model in client.models.list()]
    assert client.models.retrieve("e5-small").id == "e5-small"


def test_openai_knows_our_errors(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model="text-embedding-3-small", input="a")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert len(caught.value.request_id) == 16
    with pytest.raises(openai.BadRequestError, match="not trained for 100 dimensions"):
        client.embeddings.create(model="e5-small", input="a", dimensions=100)


def test_openai_asynchronously(e5, encoder):
    async def embed_all():
        async with openai.AsyncOpenAI(base_url=f"{e5.url}/v1", api_key="none", max_retries=0) as client:
            calls = (client.embeddings.create(model="e5-small:query", input=text) for text in SENTENCES * 5)
            return await asyncio.gather(*calls)

    replies = asyncio.run(embed_all())
    # In which number type a short query is embedded depends on what comes with it.
    vectors = [reply.data[0].embedding for reply in replies]
    close_to(vectors, encoder.encode_queries(SENTENCES * 5), within=1e-3)


@pytest.fixture
def with_table(monkeypatch):
    """Lets tiktoken find its table offline, as the server does."""
    pytest.importorskip("tiktoken")
    found = [path for path in tokens._places() if path.is_file() and path.name == tokens.CACHED_NAME]
    if not found:
        pytest.skip("no package here carries cl100k_base")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(found[0].parent))


def test_langchain_with_its_default_token_ids(e5, encoder, with_table):
    langchain = pytest.importorskip("langchain_openai")
    sent = []

    def remember(request):
        sent.append(request.read())

    import httpx

    http = httpx.Client(event_hooks={"request": [remember]})
    embeddings = langchain.OpenAIEmbeddings(
        model="e5-small", base_url=f"{e5.url}/v1", api_key="none", http_client=http, max_retries=0
    )
    close_to(embeddings.embed_documents(SENTENCES), encoder.encode_documents(SENTENCES))
    assert b'"input":[[' in sent[0].replace(b" ", b"")  # token ids
    query = langchain.OpenAIEmbeddings(
        model="e5-small:query", base_url=f"{e5.url}/v1", api_key="none", http_client=http, max_retries=0
    )
    close_to([query.embed_query(SENTENCES[0])], encoder.encode_queries(SENTENCES[:1]))
    http.close()


def test_llama_index(e5, encoder):
    module = pytest.importorskip("llama_index.embeddings.openai_like")
    model = module.OpenAILikeEmbedding(
        model_name="e5-small", api_base=f"{e5.url}/v1", api_key="none", max_retries=0
    )
    close_to(model.get_text_embedding_batch(SENTENCES), encoder.encode_documents(SENTENCES))
    close_to([model.get_query_embedding(SENTENCES[0])], encoder.encode_documents(SENTENCES[:1]))
