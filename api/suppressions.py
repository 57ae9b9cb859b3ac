"""The addresses that get no mail of a tenant: a replica of ``email.suppressions``, and changes to it."""

import msgspec
from sortedcontainers import SortedDict

from api.append import Append
from api.view.lookup import Lookup
from mailstream.domain import codec
from mailstream.domain.codec import Undecodable, decode_suppression, encode
from mailstream.domain.recipient import partition_of, recipient_hash
from mailstream.domain.suppression import Suppression, key_of


class SuppressionView:
    """What is suppressed, by tenant and address. Values stay the bytes that came."""

    def __init__(self) -> None:
        self._tenants: dict[str, SortedDict[str, bytes]] = {}
        self._places: dict[bytes, tuple[str, str]] = {}  #: tenant and address of a record key

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take one record of the topic."""
        if (place := self._places.pop(key, None)) is not None:
            tenant, address = place
            del self._tenants[tenant][address]
        if value is None:
            return
        try:
            record = decode_suppression(value)
        except Undecodable:
            return
        self._places[key] = record.tenant, record.address
        self._tenants.setdefault(record.tenant, SortedDict())[record.address] = value

    def get(self, tenant: str, address: str) -> Suppression | None:
        """The suppression of a canonical address."""
        found = self._tenants.get(tenant)
        value = None if found is None else found.get(address)
        return None if value is None else decode_suppression(value)

    def page(self, tenant: str, after: str, limit: int) -> list[Suppression]:
        """The next ones behind this address, in the order of addresses."""
        found = self._tenants.get(tenant)
        if found is None:
            return []
        begin = found.bisect_right(after)
        return [decode_suppression(value) for value in found.values()[begin : begin + limit]]


class Suppressions:
    """Reads and changes the list; a change is visible to whoever asks afterwards, on every replica."""

    def __init__(self, view: SuppressionView, topic: str, partitions: int, append: Append, lookup: Lookup) -> None:
        self._view, self._topic, self._partitions = view, topic, partitions
        self._append, self._lookup = append, lookup

    async def get(self, tenant: str, address: str) -> Suppression | None:
        """The suppression of a canonical address. Raises NotCaughtUp."""
        await self._lookup.reach_end(self._topic)
        return self._view.get(tenant, address)

    async def page(self, tenant: str, after: str, limit: int) -> list[Suppression]:
        """The next ones behind this address, in the order of addresses. Raises NotCaughtUp."""
        await self._lookup.reach_end(self._topic)
        return self._view.page(tenant, after, limit)

    async def put(self, record: Suppression) -> None:
        """Let the address get no more mail. Raises Problem 503."""
        await self._write(record.tenant, record.address, record)

    async def remove(self, tenant: str, address: str) -> None:
        """Let the address get mail again. Raises Problem 503."""
        await self._write(tenant, address, None)

    async def _write(self, tenant: str, address: str, record: msgspec.Struct | None) -> None:
        await self._append(
            self._topic,
            None if record is None else encode(record),
            key=key_of(tenant, address),
            partition=partition_of(recipient_hash(address), self._partitions),
            headers=() if record is None else codec.headers_of(record),
        )
