"""Which emails a tenant has, newest first, and which of them carry a reference. Holds ids only, 16 bytes for each."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from datetime import datetime
from itertools import groupby, pairwise
from typing import NamedTuple

from api.view.brief import Seen

#: Removed emails are skipped; the list is made anew when they are more than this part of it.
_MOST_DEAD, _LEAST_DEAD = 0.25, 1000


class Place(NamedTuple):
    """Where an email stands in the order: two of one moment are ordered by id."""

    created: int  #: microseconds since 1970
    key: bytes


class _Emails:
    """The emails of one tenant by time of creation."""

    def __init__(self) -> None:
        self.created = array("q")
        self.keys: list[bytes] = []
        self.dead = 0
        self.is_sorted = True

    def add(self, created: int, key: bytes, *, is_loading: bool) -> None:
        keys = self.keys
        if not keys or created > self.created[-1] or (created == self.created[-1] and key > keys[-1]):
            self.created.append(created)
            keys.append(key)
        elif is_loading:  # sorted once, when all are there
            self.is_sorted = False
            self.created.append(created)
            keys.append(key)
        else:
            at = self._at(Place(created, key))
            self.created.insert(at, created)
            keys.insert(at, key)

    def sort(self) -> None:
        if self.is_sorted:
            return
        moments = array("d", self.created)  # as exact until the year 2255, and compared in half the time
        order = sorted(range(len(moments)), key=moments.__getitem__)
        self.created = array("q", map(self.created.__getitem__, order))
        self.keys = [self.keys[at] for at in order]
        self._sort_moments()
        self.is_sorted = True

    def _sort_moments(self) -> None:
        """Put emails of one moment in the order of their ids."""
        for moment, _ in groupby(moment for moment, after in pairwise(self.created) if moment == after):
            begin, end = bisect_left(self.created, moment), bisect_right(self.created, moment)
            self.keys[begin:end] = sorted(self.keys[begin:end])

    def tidy(self, is_known: Callable[[bytes], bool]) -> None:
        kept = [at for at, key in enumerate(self.keys) if is_known(key)]
        self.created = array("q", (self.created[at] for at in kept))
        self.keys = [self.keys[at] for at in kept]
        self.dead = 0

    def older(self, before: Place | None, since: int, until: int, count: int) -> list[Place]:
        at = bisect_left(self.created, until)
        if before is not None:
            at = min(at, self._at(before))
        stop = max(bisect_left(self.created, since), at - count)
        return [Place(self.created[n], self.keys[n]) for n in range(at - 1, stop - 1, -1)]

    def _at(self, place: Place) -> int:
        begin, end = bisect_left(self.created, place.created), bisect_right(self.created, place.created)
        return bisect_left(self.keys, place.key, begin, end)


class Listing:
    """Every known id, by tenant."""

    def __init__(self, is_known: Callable[[bytes], bool]) -> None:
        self._is_known = is_known  #: whether an id still has a status or a request
        self._tenants: dict[str, _Emails] = {}
        #: By a hash of tenant and reference: a quarter of the memory of the pair, and readers check the emails anyway.
        self._references: dict[int, bytes | tuple[bytes, ...]] = {}
        self._is_loading = True

    def changed(self, key: bytes, before: Seen | None, after: Seen | None) -> None:
        """Take in an email that was unknown, forget one that is gone."""
        if before is None and after is not None:
            if (emails := self._tenants.get(after.tenant)) is None:
                emails = self._tenants[after.tenant] = _Emails()
            emails.add(microseconds(after.created_at), key, is_loading=self._is_loading)
            if after.reference is not None:
                self._refer(hash((after.tenant, after.reference)), key)
        elif before is not None and after is None:
            if (emails := self._tenants.get(before.tenant)) is not None:
                emails.dead += 1
                if emails.dead > max(_LEAST_DEAD, _MOST_DEAD * len(emails.keys)):
                    emails.tidy(self._is_known)
            if before.reference is not None:
                self._refer_no_more(hash((before.tenant, before.reference)), key)

    def loaded(self) -> None:
        """All that was there at the start has been taken in."""
        for emails in self._tenants.values():
            emails.sort()
        self._is_loading = False

    def older(self, tenant: str, before: Place | None, since: int, until: int, count: int) -> list[Place]:
        """The next ``count`` emails of a tenant, newest first, removed ones among them.

        Strictly before the place, and created in [since, until).
        """
        emails = self._tenants.get(tenant)
        return [] if emails is None else emails.older(before, since, until, count)

    def with_reference(self, tenant: str, reference: str) -> tuple[bytes, ...]:
        """The ids that carry this reference, and maybe others: check each."""
        found = self._references.get(hash((tenant, reference)))
        return () if found is None else _tuple(found)

    def _refer(self, mark: int, key: bytes) -> None:
        known = self._references.get(mark)
        self._references[mark] = key if known is None else (*_tuple(known), key)

    def _refer_no_more(self, mark: int, key: bytes) -> None:
        rest = tuple(each for each in _tuple(self._references.get(mark, ())) if each != key)
        if rest:
            self._references[mark] = rest
        else:
            self._references.pop(mark, None)


def _tuple(found: bytes | tuple[bytes, ...]) -> tuple[bytes, ...]:
    return found if isinstance(found, tuple) else (found,)


def microseconds(at: datetime) -> int:
    """A moment as an integer, for arrays."""
    return int(at.timestamp() * 1_000_000)
