import pytest

from mretrieve.errors import InputError
from mretrieve.mine.translator import by_source, check_target, normalize_targets, open_translator
from tests.conftest import write_jsonl


class Known:
    name = "known"
    languages = by_source([("en", "es"), ("en", "ca"), ("fr", "ca"), ("en", "en")])


def test_pairs_by_source():
    assert Known.languages == {"en": frozenset({"es", "ca"}), "fr": frozenset({"ca"})}


def test_unknown_pairs_name_near_ones():
    check_target(Known, "en", "es")
    with pytest.raises(InputError, match="known does not translate 'en' into 'de'; from en: ca, es."):
        check_target(Known, "en", "de")
    with pytest.raises(InputError, match="'fr' into 'es'; from fr: ca; to es from: en."):
        check_target(Known, "fr", "es")
    with pytest.raises(InputError, match="'sw' into 'zu'; it translates from: en, fr."):
        check_target(Known, "sw", "zu")


def test_targets_by_our_codes():
    assert normalize_targets(["deu", "es", "de"]) == ["de", "es"]
    for codes in ([], [""], ["und"]):
        with pytest.raises(InputError, match="--to de,fr"):
            normalize_targets(codes)
    with pytest.raises(InputError, match="Unknown language 'qq'"):
        normalize_targets(["qq"])


def test_translators_by_name(tmp_path):
    path = write_jsonl(tmp_path / "text.jsonl", [{"eng": "A cat.", "deu": "Eine Katze."}])
    assert open_translator(f"parallel:{path}").translate(["A cat."], "en", "de") == ["Eine Katze."]
    for name in ("babel", "parallel", "apertium:en", "/nowhere/at/all"):
        with pytest.raises(InputError, match=f"There is no translator '{name}'. Give `apertium`"):
            open_translator(name)
