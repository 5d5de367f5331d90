import gzip
import lzma

import pytest

import mretrieve.datasets.files as files
from mretrieve.datasets.files import BadRecord, read_blocks, read_lines
from mretrieve.errors import InputError


def write(path, content):
    path.write_bytes(content)
    return path


def test_lines_are_counted_from_one_without_their_breaks(tmp_path):
    path = write(tmp_path / "a.txt", "one\r\nzwei ü\n\nלוז\u2028still".encode())
    assert list(read_lines(path)) == [(1, "one"), (2, "zwei ü"), (3, ""), (4, "לוז\u2028still")]


def test_a_byte_order_mark_is_dropped_from_the_first_line_only(tmp_path):
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n")
    assert list(read_lines(path)) == [(1, "one"), (2, "\ufefftwo")]
    assert "".join(read_blocks(path)) == "one\n\ufefftwo\n"


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.xz", "a.jsonl"])
def test_compression_is_known_by_the_content(tmp_path, name, pack):
    path = write(tmp_path / name, pack(b"one\ntwo\n"))
    assert list(read_lines(path)) == [(1, "one"), (2, "two")]
    assert list(read_lines(write(tmp_path / f"plain-{name}", b"one\n"))) == [(1, "one")]


def test_a_line_that_is_not_utf8_tells_the_byte_and_the_next_is_read(tmp_path):
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfab\nc\xe9d\nok\n")
    (_, first), (number, fault), (_, last) = read_lines(path)
    assert (first, number, last) == ("ab", 2, "ok")
    assert isinstance(fault, BadRecord)
    assert fault.reason == "not UTF-8"
    assert "byte 0xe9 at offset 7" in str(fault)  # 3 of the mark, "ab\n", "c"


def test_utf16_is_recognised(tmp_path):
    ((_, fault), *_) = read_lines(write(tmp_path / "a.txt", "hello\n".encode("utf-16")))
    assert "offset 0 (it looks like UTF-16)" in str(fault)


@pytest.mark.parametrize("kept", [1000, 15])
def test_a_cut_off_gzip_file_is_named(tmp_path, kept):
    packed = gzip.compress(bytes(range(97, 123)) * 1000, compresslevel=0)
    path = write(tmp_path / "a.jsonl.gz", packed[:kept])
    with pytest.raises(InputError, match=r"a\.jsonl\.gz is cut off or damaged"):
        list(read_lines(path))


def test_a_damaged_gzip_file_is_named(tmp_path):
    packed = bytearray(gzip.compress(b"some text, some more text\n" * 100))
    packed[-6] ^= 0xFF  # in the checksum
    with pytest.raises(InputError, match=r"a\.gz is cut off or damaged"):
        list(read_lines(write(tmp_path / "a.gz", bytes(packed))))


@pytest.mark.parametrize("damage", [lambda packed: packed[:-20], lambda packed: packed[:40] + b"?" * 40])
def test_a_damaged_xz_file_is_named(tmp_path, damage):
    path = write(tmp_path / "a.xz", damage(lzma.compress(bytes(range(256)) * 10)))
    with pytest.raises(InputError, match=r"a\.xz is cut off or damaged"):
        list(read_lines(path))


def test_files_that_cannot_be_opened_are_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"There is no file .*missing"):
        list(read_lines(tmp_path / "missing"))
    with pytest.raises(InputError, match=r"is a folder"):
        list(read_lines(tmp_path))

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "open", refuse)
    with pytest.raises(InputError, match=r"secret may not be read by this user: change its permissions"):
        list(read_lines(tmp_path / "secret"))


def test_an_error_of_the_disk_is_named(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(type(tmp_path), "open", fail)
    with pytest.raises(InputError, match=r"a cannot be read: Input/output error"):
        list(read_lines(tmp_path / "a"))


def test_blocks_join_to_the_text_and_end_at_white_space(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_BLOCK_BYTES", 7)
    text = "ein zwei drei\nvier fünf ไทย 中文字 ok"
    blocks = list(read_blocks(write(tmp_path / "a.txt", text.encode())))
    assert "".join(blocks) == text
    assert len(blocks) > 3
    assert all(block.endswith((" ", "\n")) for block in blocks[:3])


@pytest.mark.parametrize("content", [b"abcdefg\xff rest", b"abcdef\xc3\x28 rest", b"abcdefg\xc3"])
def test_blocks_tell_where_utf8_ends(tmp_path, monkeypatch, content):
    monkeypatch.setattr(files, "_BLOCK_BYTES", 7)
    bad = max(content.find(b"\xff"), content.find(b"\xc3"))
    with pytest.raises(BadRecord, match=rf"at offset {bad};"):
        list(read_blocks(write(tmp_path / "a.txt", content)))
