"""Keys, what they open, and how often."""

import pytest

from mretrieve.errors import InputError
from mretrieve.serve.auth import Gatekeeper, check_exposure, is_loopback, read_keys
from mretrieve.serve.errors import ApiError

ONE, TWO, THREE = "sk-0123456789abcdef", "sk-fedcba9876543210", "sk-aaaaaaaaaaaaaaaa"


@pytest.fixture
def key_file(tmp_path):
    def write(*lines):
        path = tmp_path / "keys"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def refused(keeper, authorization, scope="embeddings", address="1.2.3.4"):
    with pytest.raises(ApiError) as caught:
        keeper.admit(authorization, address, scope)
    return caught.value


def test_keys_with_what_stands_behind_them(key_file):
    path = key_file("# keys", "", ONE, f"{TWO}  rpm=60 only=search,indexes")
    plain, narrow = read_keys(path)
    assert (plain.requests_per_minute, plain.scopes) == (None, None)
    assert (narrow.requests_per_minute, narrow.scopes) == (60, {"search", "indexes"})
    assert ONE.encode() not in plain.digest


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "holds no key"),
        (["# none"], "holds no key"),
        (["short"], ":1: a key has at least 16 characters"),
        ([ONE, f"{TWO} rpm=fast"], ":2: behind a key"),
        ([f"{ONE} rpm=0"], ":1: behind a key"),
        ([f"{ONE} only=everything"], ":1: behind a key"),
        ([f"{ONE} {TWO}"], ":1: behind a key"),
        ([ONE, ONE], "the same key twice"),
        (["schlüssel-schlüssel"], "of ASCII only"),
    ],
)
def test_key_files_that_are_wrong(key_file, lines, message):
    with pytest.raises(InputError, match=message) as caught:
        read_keys(key_file(*lines))
    assert ONE not in str(caught.value) and TWO not in str(caught.value)


def test_a_key_file_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_keys(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe" * 20)
    with pytest.raises(InputError, match="is not UTF-8"):
        read_keys(tmp_path / "binary")


def test_only_the_keys_of_the_file_open(key_file):
    keeper = Gatekeeper(read_keys(key_file(ONE, TWO)))
    assert keeper.needs_key
    keeper.admit(f"Bearer {ONE}", "", "embeddings")
    keeper.admit(f"bearer  {TWO} ", "", "embeddings")
    for wrong in (None, "", ONE, f"Basic {ONE}", "Bearer", "Bearer ", f"Bearer {THREE}", f"Bearer {ONE}x"):
        error = refused(keeper, wrong)
        assert error.status == 401
        assert error.headers == {"www-authenticate": "Bearer"}
        assert ONE not in error.message


def test_each_key_is_compared_whatever_the_first_said(key_file, monkeypatch):
    compared = []

    def compare(known, given):
        compared.append(known)
        return known == given

    monkeypatch.setattr("mretrieve.serve.auth.hmac.compare_digest", compare)
    keys = read_keys(key_file(ONE, TWO, THREE))
    Gatekeeper(keys).admit(f"Bearer {ONE}", "", "search")
    assert compared == [key.digest for key in keys]


def test_a_key_opens_only_its_parts(key_file):
    keeper = Gatekeeper(read_keys(key_file(f"{ONE} only=search")))
    keeper.admit(f"Bearer {ONE}", "", "search")
    error = refused(keeper, f"Bearer {ONE}", "embeddings")
    assert (error.status, error.to_dict()["error"]["type"]) == (403, "permission_error")


def test_a_minutes_requests_at_once_then_one_at_a_time(key_file):
    clock = Clock()
    keeper = Gatekeeper(read_keys(key_file(f"{ONE} rpm=6", TWO)), requests_per_minute=2, clock=clock)
    for _ in range(6):
        keeper.admit(f"Bearer {ONE}", "", "search")
    assert refused(keeper, f"Bearer {ONE}").retry_after == 10  # 60 s / 6
    clock.now = 4.0
    error = refused(keeper, f"Bearer {ONE}")
    assert (error.status, error.retry_after, error.headers) == (429, 6, {"retry-after": "6"})
    keeper.admit(f"Bearer {TWO}", "", "search")  # another key has its own
    clock.now = 10.0
    keeper.admit(f"Bearer {ONE}", "", "search")
    assert refused(keeper, f"Bearer {ONE}").status == 429
    keeper.admit(f"Bearer {TWO}", "", "search")
    assert refused(keeper, f"Bearer {TWO}").retry_after == 24  # a fifth of one came back in 6 s, 30 s for one


def test_without_keys_an_address_has_its_rate():
    keeper = Gatekeeper(requests_per_minute=1, clock=Clock())
    assert not keeper.needs_key
    keeper.admit(None, "10.0.0.1", "search")
    assert refused(keeper, None, address="10.0.0.1").status == 429
    keeper.admit(None, "10.0.0.2", "search")


def test_wrong_keys_take_no_memory(key_file):
    keeper = Gatekeeper(read_keys(key_file(ONE)), requests_per_minute=5)
    for number in range(100):
        refused(keeper, f"Bearer {number:016d}")
    assert len(keeper._buckets) == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_this_machine_alone(host):
    assert is_loopback(host)
    check_exposure(host, has_keys=False, insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1"])
def test_a_public_address_needs_a_key(host):
    assert not is_loopback(host)
    with pytest.raises(InputError, match="--api-key-file, listen on 127.0.0.1, or say --insecure"):
        check_exposure(host, has_keys=False, insecure=False)
    check_exposure(host, has_keys=True, insecure=False)
    check_exposure(host, has_keys=False, insecure=True)


def test_a_name_that_nobody_knows():
    with pytest.raises(InputError, match="no such address or name"):
        is_loopback("no-such-host.invalid")
