"""One recipient has one canonical form, one hash and one partition, whoever computes them."""

import unicodedata

import pytest
from aiokafka.partitioner import murmur2 as murmur2_of_aiokafka
from hypothesis import assume, given
from hypothesis import strategies as st

from mailstream.domain.errors import BadAddress
from mailstream.domain.recipient import canonical, is_plain, murmur2, partition_of, recipient_hash

#: Letters that matter here: composed and decomposed, with and without a lower case, ASCII and not.
local_parts = st.text(st.sampled_from("azAZ09._+-äÄéßΩжИ漢e\u0301a\u0308"), min_size=1, max_size=20)
domains = st.sampled_from(
    ["example.com", "EXAMPLE.com", "bücher.example", "BÜCHER.example", "例え.jp", "xn--bcher-kva.example"]
)


@pytest.mark.parametrize(
    ("data", "signed"),
    [
        # org.apache.kafka.common.utils.UtilsTest#testMurmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_that_of_the_java_client(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed & 0xFFFFFFFF


@given(st.binary(max_size=64))
def test_the_hash_is_that_of_aiokafka_and_faust(data: bytes) -> None:
    assert murmur2(data) == murmur2_of_aiokafka(data) & 0xFFFFFFFF


@given(st.text(max_size=40), st.integers(1, 64))
def test_a_partition_is_one_of_those_that_there_are(address: str, partitions: int) -> None:
    hash_ = recipient_hash(address)

    assert 0 <= hash_ <= 0x7FFFFFFF
    assert 0 <= partition_of(hash_, partitions) < partitions


@given(local_parts, domains)
def test_the_canonical_form_of_a_canonical_form_is_itself(local: str, domain: str) -> None:
    once = canonical(f"{local}@{domain}")

    assert canonical(once) == once


@given(local_parts, domains)
def test_composed_and_decomposed_writing_is_one_recipient(local: str, domain: str) -> None:
    address = f"{local}@{domain}"

    assert canonical(unicodedata.normalize("NFD", address)) == canonical(unicodedata.normalize("NFC", address))


@given(st.emails())
def test_case_makes_no_other_recipient(address: str) -> None:
    assume(address.isascii())

    assert canonical(address.upper()) == canonical(address.lower())


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Ada@Example.COM", "ada@example.com"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ADA@BÜCHER.example", "ada@xn--bcher-kva.example"),
        ("Ä@example.com", "ä@example.com"),
        ("ada+tag@example.com", "ada+tag@example.com"),
    ],
)
def test_an_address_in_its_canonical_form(written: str, expected: str) -> None:
    assert canonical(written) == expected


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("", id="nothing"),
        pytest.param("ada", id="no domain"),
        pytest.param("@example.com", id="no local part"),
        pytest.param("ada@", id="an empty domain"),
        pytest.param("ada lovelace@example.com", id="a space"),
        pytest.param("ada@exa\nmple.com", id="a line break"),
        pytest.param("ada@bü..cher.example", id="a domain without an A-label"),
    ],
)
def test_what_has_no_canonical_form_is_refused_without_being_repeated(address: str) -> None:
    with pytest.raises(BadAddress) as refused:
        canonical(address)

    assert not address or address not in str(refused.value)


@given(st.text(max_size=60))
def test_any_text_has_a_canonical_form_or_is_refused(text: str) -> None:
    try:
        found = canonical(text)
    except BadAddress:
        return
    assert "@" in found
    assert not any(character.isspace() for character in found)


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("ada@example.com", True),
        ("a.d.a+b@mail.example.co.uk", True),
        ("ada.@example.com", False),
        ("ada@example", False),
        ("ada@-example.com", False),
        (f"{'a' * 65}@example.com", False),
        ("ada@example.com\n", False),
    ],
)
def test_only_the_plain_form_needs_no_further_look(address: str, plain: bool) -> None:
    assert is_plain(address) is plain
