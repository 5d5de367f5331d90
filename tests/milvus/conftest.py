import pytest

pytest.importorskip("milvus_lite", reason="Milvus Lite is not installed")


@pytest.fixture(scope="session")
def filled(tmp_path_factory, model, collection):
    """The address of a collection in Milvus Lite with the same documents as `small_index`."""
    from mretrieve.milvus.build import build_collection
    from mretrieve.recipe import Recipe

    address = f"milvus:{tmp_path_factory.mktemp('milvus') / 'small.db'}"
    build_collection(collection, address, recipe=Recipe().with_choices(model=str(model)))
    return address


@pytest.fixture
def retriever(filled):
    from mretrieve.milvus.retriever import MilvusRetriever

    with MilvusRetriever(filled) as found:
        yield found
