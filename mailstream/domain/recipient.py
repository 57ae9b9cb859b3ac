"""An address in its canonical form, its hash and its partition.

The canonical form is only for keys, ids, pacing and dedupe: mail goes to the address as it was written.
"""

import re
import unicodedata
from functools import lru_cache

import idna

from mailstream.domain.errors import BadAddress

#: The plain form of nearly all addresses: RFC 5321 dot-string without quoting, ASCII, sane lengths.
_PLAIN = re.compile(
    r"(?=.{1,64}@)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?=.{4,253}\Z)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}",
)

#: Addresses whose form and hash are remembered: each is asked for several times while one email passes.
_LATELY = 4096


def is_plain(address: str) -> bool:
    """Whether the address is of the plain ASCII form that needs no further look."""
    return _PLAIN.fullmatch(address) is not None


@lru_cache(maxsize=_LATELY)
def canonical(address: str) -> str:
    """NFC, the whole address lower-cased, the domain as IDNA A-label.

    Raises BadAddress when there is no local part, no domain, or the domain has no A-label. It does not check
    the whole address: ``mailstream.domain.address.check`` does.
    """
    if address.isascii() and is_plain(address):
        return address.lower()
    local, at, domain = unicodedata.normalize("NFC", address).rpartition("@")
    if not at or not local or not domain or any(c.isspace() for c in address):
        raise BadAddress("the address needs the form name@domain, without spaces")
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode()
        except idna.IDNAError:
            raise BadAddress("the domain of the address is not a valid internet name") from None
    return unicodedata.normalize("NFC", f"{local}@{domain}".lower())


def canonical_or_none(address: str) -> str | None:
    """The same; None where that raises."""
    try:
        return canonical(address)
    except BadAddress:
        return None


@lru_cache(maxsize=_LATELY)
def recipient_hash(canonical_address: str) -> int:
    """Kafka's own hash of the key, 31 bits: what Java's default partitioner, aiokafka and Faust compute."""
    return murmur2(canonical_address.encode()) & 0x7FFFFFFF


def partition_of(hash_: int, partitions: int) -> int:
    """The partition of every record about a recipient with this hash."""
    return hash_ % partitions


def murmur2(data: bytes) -> int:
    """MurmurHash2 with Kafka's seed (org.apache.kafka.common.utils.Utils#murmur2), unsigned 32 bits.

    No kept library gives it without a Kafka client around it; a test holds it against aiokafka's.
    """
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
