"""Mr. TyDi's official files: all published topics and judgements, the hub's layout and the archives."""

import io
import tarfile

import pytest

from mretrieve.datasets import mrtydi
from mretrieve.datasets.collection import open_collection
from mretrieve.datasets.hf import read_topics
from mretrieve.datasets.layout import find
from mretrieve.errors import InputError
from tests.official import SHARED, assert_all_published, of_sample, splits_of, write_archive, write_mrtydi

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")
SPLITS = splits_of("mrtydi")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRETRIEVE_CACHE", str(tmp_path / "cache"))


@needs_shared
@pytest.mark.parametrize(("lang", "split"), SPLITS, ids=["/".join(one) for one in SPLITS])
def test_all_topics_and_judgements(lang, split):
    assert_all_published("mrtydi", mrtydi, lang, split)


@needs_shared
@pytest.mark.parametrize(
    ("lang", "split", "place", "query_id", "text"),
    [
        ("ar", "test", 0, "15513", "كم عدد مرات فوز الأوروغواي ببطولة كاس العالم لكرو القدم؟"),
        ("ar", "test", 9, "15522", "ما كان إسم حصان الرسول صلي الله عليه وسلم ؟"),
        ("ar", "test", -1, "16594", "ماهى أول مؤلفة لي ج. ك. رولينغ ؟"),
        ("ja", "test", 0, "4631", "化学兵器禁止条約はどこで採択された？"),
        ("ja", "dev", 9, "22", "スポーツにおけるドーピング検査が始まったのはいつ"),
        (
            "ja",
            "test",
            -1,
            "5352",
            "クイズ番組『アメリカ横断ウルトラクイズ』の出場者はどのようなひとでしたか？",
        ),
        ("en", "train", 0, "1", "When was quantum field theory developed?"),
    ],
)
def test_single_topics(lang, split, place, query_id, text):
    topic = read_topics(find(SHARED, mrtydi.topics(lang, split), whole=True))[place]
    assert (topic.query_id, topic.text) == (query_id, text)


@pytest.mark.parametrize("lang", ["ar", "th"])  # right to left; without spaces
@pytest.mark.parametrize("write", [write_mrtydi, write_archive], ids=["hub", "archive"])
def test_a_collection(tmp_path, lang, write):
    small = of_sample(lang)
    write(tmp_path / "root", small)
    collection = open_collection(f"mrtydi/{lang}/test", root=tmp_path / "root")
    documents = list(collection.source().documents())
    assert len(documents) == 25
    for place in (0, 9, -1):
        wanted = small.documents[place]
        assert (documents[place].doc_id, documents[place].contents) == (wanted.doc_id, wanted.contents)
        assert documents[place].lang == lang
    assert [(q.query_id, q.text, q.lang) for q in collection.queries()] == [
        (q.query_id, q.text, lang) for q in small.queries
    ]
    assert collection.judgements() == small.qrels


def test_an_archive_is_unpacked_once(tmp_path):
    archive = write_archive(tmp_path / "root", of_sample("ar"))
    folder = mrtydi.unpack(archive)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert mrtydi.unpack(archive) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_truncated_archive_names_its_file_and_leaves_nothing(tmp_path):
    archive = write_archive(tmp_path / "root", of_sample("ar"))
    archive.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"mrtydi-v1\.1-arabic\.tar\.gz is cut off or damaged"):
        open_collection("mrtydi/ar", root=tmp_path / "root")
    assert not list((tmp_path / "cache" / "datasets" / "unpacked").iterdir())


def test_an_archive_with_another_checksum_is_told_and_leaves_nothing(tmp_path):
    archive = write_archive(tmp_path / "root", of_sample("ar"))
    content = bytearray(archive.read_bytes())
    content[-6] ^= 1  # of the CRC at the end
    archive.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"mrtydi-v1\.1-arabic\.tar\.gz is cut off or damaged \(CRC check"):
        mrtydi.unpack(archive)
    assert not list((tmp_path / "cache" / "datasets" / "unpacked").iterdir())


def test_no_archive_is_told(tmp_path):
    archive = tmp_path / "mrtydi-v1.1-arabic.tar.gz"
    archive.write_text("<html>not found</html>")
    with pytest.raises(InputError, match=r"arabic\.tar\.gz is cut off or damaged \(Not a gzipped file"):
        mrtydi.unpack(archive)


def test_nothing_outside_its_folder_is_written(tmp_path):
    archive = tmp_path / "mrtydi-v1.1-arabic.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        for name in (
            "../escaped.jsonl.gz",
            f"{tmp_path}/escaped.jsonl.gz",
            "mrtydi-v1.1-arabic/collection/docs.jsonl.gz",
        ):
            member = tarfile.TarInfo(name)
            member.size = 1
            file.addfile(member, io.BytesIO(b"x"))
        link = tarfile.TarInfo("mrtydi-v1.1-arabic/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    folder = mrtydi.unpack(archive)
    assert [path.name for path in tmp_path.rglob("*.jsonl.gz")] == ["docs.jsonl.gz"]
    assert not (folder / "mrtydi-v1.1-arabic" / "link").exists()


def test_another_archive_of_that_name_is_told(tmp_path):
    archive = tmp_path / "mrtydi-v1.1-arabic.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        member = tarfile.TarInfo("README")
        file.addfile(member, io.BytesIO(b""))
    with pytest.raises(InputError, match="no archive of Mr. TyDi"):
        mrtydi.unpack(archive)
