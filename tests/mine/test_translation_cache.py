import pytest

from mretrieve.errors import InputError
from mretrieve.mine.translation_cache import Direction, TranslationCache

ONE = Direction("engine 1", "en", "de")


def test_translations_are_there_next_time(tmp_path):
    path = tmp_path / "deep" / "cache.sqlite"
    cache = TranslationCache(path)
    cache.put({"a cat": "eine Katze", "xyzzy": None}, ONE)
    cache.close()
    again = TranslationCache(path)
    assert again.get(["a cat", "xyzzy", "a dog"], ONE) == {"a cat": "eine Katze", "xyzzy": None}
    again.close()


def test_engines_versions_and_languages_are_kept_apart(tmp_path):
    cache = TranslationCache(tmp_path / "cache.sqlite")
    cache.put({"a": "b"}, ONE)
    for other in (
        Direction("engine 2", "en", "de"),
        Direction("engine 1", "en", "fr"),
        Direction("engine 1", "fr", "de"),
    ):
        assert cache.get(["a"], other) == {}
    cache.put({"a": "c"}, ONE)
    assert cache.get(["a"], ONE) == {"a": "c"}
    cache.close()


def test_many_texts_at_once(tmp_path):
    cache = TranslationCache(tmp_path / "cache.sqlite")
    texts = {f"text {n} \ud800": str(n) for n in range(2500)}
    cache.put(texts, ONE)
    assert cache.get(list(texts), ONE) == texts
    assert cache.get([], ONE) == {}
    cache.close()


def test_files_that_are_no_cache(tmp_path):
    (tmp_path / "junk").write_bytes(b"no database at all, but long enough to be one" * 100)
    with pytest.raises(InputError, match="junk cannot be used .*--cache"):
        TranslationCache(tmp_path / "junk")
    with pytest.raises(InputError, match="cannot be used"):
        TranslationCache(tmp_path / "junk" / "below" / "cache.sqlite")
