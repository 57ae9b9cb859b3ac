"""The addresses that get no mail of a tenant: a replica of ``email.suppressions``, and changes to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sortedcontainers import SortedDict

from api.append import Append
from api.view.lookup import Lookup
from mailstream.domain.codec import Header, Undecodable, decode_suppression, encode, headers_of
from mailstream.domain.recipient import partition_of, recipient_hash
from mailstream.domain.suppression import Origin, Suppression, key_of


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


def record_of(tenant: str, address: str, origin: Origin, *, reason: str, since: datetime, by: str) -> Suppression:
    """The record that a canonical address gets no mail of the tenant."""
    recipient = f"{recipient_hash(address):08x}"
    return Suppression(
        tenant=tenant, recipient=recipient, address=address, origin=origin, reason=reason, since=since, by=by
    )


@dataclass(slots=True)
class Suppressions:
    """Reads and changes the list; a change is visible to all who ask afterwards, on every replica."""

    view: SuppressionView
    topic: str
    partitions: int
    append: Append
    lookup: Lookup

    async def current(self) -> SuppressionView:
        """The list with all changes up to now. Raises NotCaughtUp."""
        await self.lookup.reach_end(self.topic)
        return self.view

    async def put(self, record: Suppression) -> None:
        """Let the address get no more mail. Raises Problem 503."""
        await self._write(record.tenant, record.address, encode(record), headers_of(record))

    async def remove(self, tenant: str, address: str) -> None:
        """Let the address get mail again. Raises Problem 503."""
        await self._write(tenant, address, None)

    async def _write(self, tenant: str, address: str, value: bytes | None, headers: Sequence[Header] = ()) -> None:
        partition = partition_of(recipient_hash(address), self.partitions)
        await self.append(self.topic, value, key=key_of(tenant, address), partition=partition, headers=headers)
