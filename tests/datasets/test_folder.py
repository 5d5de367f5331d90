import os

import pytest

from mretrieve.datasets.files import BadRecord
from mretrieve.datasets.folder import list_text_files, read_text_file
from mretrieve.errors import InputError
from mretrieve.types import Document


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def read(tmp_path, text, name="a.md"):
    return [document for _, document in read_text_file(write(tmp_path / name, text), name)]


def test_text_files_are_found_at_any_depth_and_sorted(tmp_path):
    for name in ("b.txt", "a/z.MD", "a/b.txt", "a.markdown", "c.pdf", ".git/x.txt", "a/.hidden.txt", "noext"):
        write(tmp_path / name, "text")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    found = [path.relative_to(tmp_path).as_posix() for path in list_text_files(tmp_path)]
    assert found == ["a.markdown", "a/b.txt", "a/z.MD", "b.txt"]


def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"The folder .* cannot be read: Permission denied"):
        list_text_files(tmp_path)


def test_a_short_file_is_one_document(tmp_path):
    assert read(tmp_path, "Habari ya asubuhi.\n", "sub/a.txt") == [
        Document("sub/a.txt#1", "Habari ya asubuhi.", place="sub/a.txt:1")
    ]


def test_a_long_file_is_cut_into_numbered_pieces_with_their_lines(tmp_path):
    line = "This sentence has forty-nine letters and marks. \n"
    documents = read(tmp_path, line * 50, "a.txt")
    assert [document.doc_id for document in documents] == ["a.txt#1", "a.txt#2", "a.txt#3"]
    assert [document.place for document in documents] == ["a.txt:1", "a.txt:20", "a.txt:39"]
    assert all(900 < len(document.text) <= 1000 for document in documents[:2])


def test_the_first_heading_is_the_title(tmp_path):
    (document,) = read(tmp_path, "\n# The *big* [title](http://x.org) of `a_b` #\n\nText here.\n\n## More\n")
    assert document == Document(
        "a.md#1", "Text here.\n\n## More", title="The big title of a_b", place="a.md:4"
    )


def test_an_underlined_heading_is_a_title_too(tmp_path):
    (document,) = read(tmp_path, "Title\n=====\nText here.\n")
    assert (document.title, document.text, document.place) == ("Title", "Text here.", "a.md:3")


def test_a_heading_further_down_stays_in_the_text(tmp_path):
    (document,) = read(tmp_path, "An introduction.\n\n## Heading\nText.")
    assert (document.title, document.text) == ("Heading", "An introduction.\n\n## Heading\nText.")


@pytest.mark.parametrize(
    "front", ["---\ntitle: no # heading\n---\n", "+++\na = 1\n+++\n", "---\r\na: b\r\n...\r\n"]
)
def test_front_matter_is_left_out(tmp_path, front):
    (document,) = read(tmp_path, front + "# Title\nText.")
    assert (document.title, document.text, document.place) == ("Title", "Text.", "a.md:5")


def test_a_rule_is_no_front_matter_and_no_heading(tmp_path):
    (document,) = read(tmp_path, "Text.\n\n---\n\n- item\n---\nMore")
    assert (document.title, document.text) == ("", "Text.\n\n---\n\n- item\n---\nMore")


def test_comments_in_code_are_no_headings(tmp_path):
    (document,) = read(tmp_path, "```sh\n# a comment\n```\n\n# Title\n")
    assert document.title == "Title"


def test_a_lonely_heading_is_the_text(tmp_path):
    assert read(tmp_path, "# Title\n\n") == [Document("a.md#1", "# Title", place="a.md:1")]


def test_text_files_have_no_headings(tmp_path):
    (document,) = read(tmp_path, "# Not a title\nText.", "a.txt")
    assert (document.title, document.text) == ("", "# Not a title\nText.")


@pytest.mark.parametrize("text", ["", " \n\n", "\ufeff"])
@pytest.mark.parametrize("name", ["a.md", "a.txt"])
def test_an_empty_file_is_told(tmp_path, text, name):
    (fault,) = read(tmp_path, text, name)
    assert isinstance(fault, BadRecord)
    assert (fault.reason, str(fault)) == ("empty text", "this file is empty")


def test_a_file_that_is_not_utf8_is_told(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"caf\xe9")
    ((line, fault),) = read_text_file(path, "a.txt")
    assert (line, fault.reason) == (1, "not UTF-8")
    assert "byte 0xe9 at offset 3" in str(fault)


def test_a_name_that_is_not_utf8_is_told(tmp_path):
    name = os.fsdecode(b"caf\xe9.txt")
    ((_, fault),) = read_text_file(tmp_path / name, name)
    assert "the name of this file is not UTF-8" in str(fault)
