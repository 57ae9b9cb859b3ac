"""What users do, in an order that a seed decides: ask over HTTP, Kafka and events, ask again, ask for something else under the
same key, take it back, put it off, ask for many at once, and look.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mailstream.domain.request import Lane, OnAmbiguous
from mailstream.settings import Settings
from tests.support.api_caller import ApiCaller
from tests.support.edge import Edge
from tests.support.run_log import KafkaCaller, RunLog
from tests.support.shop import Shop

REPLICAS = ("api-0", "api-1")
#: Between two acts, on average: five or six emails a second, so that what piled up at a gap of 0.1 s goes away.
ACT_SECONDS = 0.3
BIG_BATCH = 110, 150
EDGE_STEP_SECONDS = 0.05  #: few cancels are at the edge, and how long the queue is changes
TRIES = 6  #: with the same key, after no answer or a 503
BAD_ITEM = {"to": "nobody", "subject": "Hello", "text": "Hello there"}


class Traffic:
    """Both sources and a shop, two replicas, a few mailboxes that get several mails. Make it inside the loop.

    ``acts``: how often each of them comes beside the others, by name; all of them when left out.
    """

    def __init__(
        self,
        settings: Settings,
        log: RunLog,
        urls: Mapping[str, str],
        dice: random.Random,
        acts: Mapping[str, float] | None = None,
    ) -> None:
        self._dice = dice
        self._api, self._kafka, self._shop = ApiCaller(urls, log), KafkaCaller(settings, log), Shop(settings, log)
        self._mailboxes = [_address(dice) for _ in range(10)]
        self._asked: deque[str] = deque(maxlen=60)
        self._edge = Edge(dice, step_seconds=EDGE_STEP_SECONDS)
        self._acts: dict[Callable[[random.Random], Coroutine[Any, Any, None]], float] = {
            act: weight for name, weight in (acts or ACTS).items() for act in [getattr(self, f"_{name}")]
        }
        self._under_way: set[asyncio.Task[None]] = set()
        self._mistakes: list[BaseException] = []  #: in acts: they are the test's

    async def go_on(self) -> None:
        """Until cancelled. Each act has dice of its own: what it draws does not depend on how long another one takes."""
        first = [*self._acts]  # each comes at least once, however short the run
        self._dice.shuffle(first)
        while True:
            act = first.pop() if first else self._dice.choices([*self._acts], [*self._acts.values()])[0]
            self._begin(act(random.Random(self._dice.random())))
            self._begin(self._look(random.Random(self._dice.random())))
            await asyncio.sleep(self._dice.uniform(0, 2 * ACT_SECONDS))

    async def close(self) -> None:
        """Wait for what is under way: all get the time to answer. Raises what went wrong in an act."""
        if self._under_way:
            await asyncio.wait(self._under_way)
        for caller in (self._api, self._kafka, self._shop):
            await caller.close()
        if self._mistakes:
            raise self._mistakes[0]

    def _begin(self, act: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(act)
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (mistake := task.exception()) is not None:
            self._mistakes.append(mistake)

    # -- acts ---------------------------------------------------------------------------------------------

    async def _plain(self, dice: random.Random) -> None:
        """One email from either source."""
        await self._ask(dice, self._email(dice))

    async def _keyed(self, dice: random.Random) -> None:
        """The same under a key, again: until it is taken, at once at both replicas, later, or with another body."""
        email, key, replica, other = self._email(dice), _key(dice), *_both(dice)
        await self._api_ask(email, key, replica, again=dice.choice([None, 0.0, dice.uniform(0, 0.05)]))
        for _ in range(TRIES):
            if (id_ := await self._api.ask(**email, key=key, replica=other)) is not None:
                self._asked.append(id_)
                break
            await asyncio.sleep(dice.uniform(0.2, 1.5))
        await asyncio.sleep(dice.uniform(0, 3))
        if dice.random() < 0.5:
            await self._api.ask(**(email | {"text": "Something else"}), key=key, replica=dice.choice(REPLICAS))

    async def _disputed(self, dice: random.Random) -> None:
        """One key, two bodies, at the same time, each at its replica: one of them is sent, and one is refused."""
        email, key, (replica, other) = self._email(dice), _key(dice), _both(dice)
        await asyncio.gather(
            self._api_ask(email, key, replica),
            self._api_ask(email | {"text": "Something else"}, key, other),
        )

    async def _withdrawn(self, dice: random.Random) -> None:
        """Cancelled: at once, while it waits, around its call, after it; sometimes twice."""
        email = self._email(dice, is_due=dice.random() < 0.5)
        moment, spread = dice.choice(["at once", "waiting", "edge", "edge", "after"]), dice.random()
        id_ = await self._ask(dice, email)
        if id_ is None:
            return
        due = datetime.fromisoformat(email["send_at"]) if "send_at" in email else datetime.now(UTC)
        left = max(0.0, (due - datetime.now(UTC)).total_seconds())
        seconds = {
            "at once": 0.0,
            "waiting": left * spread,
            "edge": max(0.0, left + self._edge.draw()),
            "after": left + 1 + 3 * spread,
        }[moment]
        await asyncio.sleep(seconds)
        code = await self._cancel(dice, id_)
        if moment == "edge":
            self._edge.learn(code)
        if dice.random() < 0.2:
            await self._cancel(dice, id_)

    async def _put_off(self, dice: random.Random) -> None:
        """Another time, once or twice; withdrawn after that, or at the same moment."""
        email = self._email(dice, is_due=False)
        if (id_ := await self._ask(dice, email)) is None:
            return
        await asyncio.sleep(dice.uniform(0, 1))
        words = [self._api.reschedule(id_, _soon(dice), replica=dice.choice(REPLICAS)) for _ in range(2)]
        if dice.random() < 0.5:
            words.append(self._cancel(dice, id_))
        dice.shuffle(words)
        if dice.random() < 0.5:
            await asyncio.gather(*words)
            return
        for word in words:
            await word

    async def _batch(self, dice: random.Random) -> None:
        """A strict batch; with a key again, and with other items; some of its items are withdrawn at once."""
        items = [self._email(dice) for _ in range(dice.randint(2, 8))]
        key, (replica, other) = _key(dice) if dice.random() < 0.6 else None, _both(dice)
        ids = await self._api.ask_many(items, mode="strict", key=key, replica=replica)
        victims = dice.sample(ids, min(len(ids), dice.randint(0, 2)))
        await asyncio.gather(*(self._cancel(dice, id_) for id_ in victims))
        self._asked.extend(ids)
        if key is None:
            return
        await asyncio.sleep(dice.choice([0.0, 3.0]) * dice.random())
        await self._api.ask_many(items, mode="strict", key=key, replica=other)
        changed = dice.choice(
            [
                [items[0] | {"text": "Something else"}, *items[1:]],
                [*items, self._email(dice)],
                items[:-1],
                items[::-1],
            ]
        )
        await self._api.ask_many(changed, mode="strict", key=key, replica=dice.choice(REPLICAS))

    async def _big_batch(self, dice: random.Random) -> None:
        """More items than are unfolded in a moment, of which some are withdrawn before they are, the last one too."""
        items = [_plain_email(_address(dice)) | {"lane": "bulk"} for _ in range(dice.randint(*BIG_BATCH))]
        key = _key(dice) if dice.random() < 0.5 else None
        ids = await self._api.ask_many(items, mode="strict", key=key, replica=dice.choice(REPLICAS))
        victims = ids[-1:] + dice.sample(ids[:-1], len(ids) // 2) if ids else []
        for number in range(0, len(victims), 10):
            await asyncio.gather(*(self._cancel(dice, id_) for id_ in victims[number : number + 10]))

    async def _permissive(self, dice: random.Random) -> None:
        """Some emails and one that is none; again, as it was."""
        items = [self._email(dice) for _ in range(dice.randint(2, 5))]
        items.insert(dice.randrange(len(items)), dict(BAD_ITEM))
        key, (replica, other) = _key(dice) if dice.random() < 0.5 else None, _both(dice)
        ids = await self._api.ask_many(items, mode="permissive", key=key, replica=replica)
        self._asked.extend(ids)
        if key is not None:
            await self._api.ask_many(items, mode="permissive", key=key, replica=other)

    async def _order(self, dice: random.Random) -> None:
        """Events of the shop; some are said twice, some orders are cancelled before their reminder is due."""
        order, to = f"{dice.getrandbits(40):010x}", self._recipient(dice)
        say = dice.choice([self._shop.say_shipped, self._shop.say_placed])
        for _ in range(dice.choice([1, 1, 1, 2])):
            await say(order, to)
        if say == self._shop.say_placed and dice.random() < 0.5:
            await asyncio.sleep(dice.uniform(0, 3))
            await self._shop.say_cancelled(order, to)

    async def _look(self, dice: random.Random) -> None:
        if self._asked and dice.random() < 0.5:
            await self._api.look_up(dice.choice(self._asked), replica=dice.choice(REPLICAS))

    # -- how they ask -------------------------------------------------------------------------------------

    async def _ask(self, dice: random.Random, email: dict[str, Any]) -> str | None:
        """By Kafka or by HTTP."""
        if dice.random() < 0.4:
            return await self._api_ask(email, None, dice.choice(REPLICAS))
        typed = {
            name: datetime.fromisoformat(value) if name in ("send_at", "expires_at") else value
            for name, value in email.items()
            if name != "cc"
        }
        typed |= {"lane": Lane(email["lane"]), "on_ambiguous": OnAmbiguous(email["on_ambiguous"])}
        id_ = await self._kafka.ask(typed.pop("to"), **typed)
        self._asked.append(id_)
        return id_

    async def _api_ask(
        self, email: dict[str, Any], key: str | None, replica: str, *, again: float | None = None
    ) -> str | None:
        """``again``: the same to the other replica so many seconds later, whether or not there was an answer."""

        async def repeat(seconds: float) -> None:
            await asyncio.sleep(seconds)
            await self._api.ask(**email, key=key, replica=next(each for each in REPLICAS if each != replica))

        asks = [self._api.ask(**email, key=key, replica=replica)]
        id_, *_ = await asyncio.gather(*asks, *([repeat(again)] if again is not None else []))
        if id_ is not None:
            self._asked.append(id_)
        return id_

    def _cancel(self, dice: random.Random, id_: str) -> Coroutine[Any, Any, int | None]:
        """At one replica, and at the other one when there is no answer. Returns the code, None without an answer."""
        replica, other = _both(dice)

        async def cancelled() -> int | None:
            code = await self._api.cancel(id_, replica=replica)
            return await self._api.cancel(id_, replica=other) if code is None or code >= 500 else code

        return cancelled()

    def _email(self, dice: random.Random, *, is_due: bool | None = None) -> dict[str, Any]:
        """A body. ``is_due``: whether at once or later; drawn when left out."""
        email = _plain_email(self._recipient(dice)) | {
            "lane": dice.choice(["critical", "normal", "normal", "normal", "bulk"]),
            "on_ambiguous": dice.choice(["hold", "hold", "resend"]),
        }
        if dice.random() < 0.05:
            email["cc"] = [_address(dice)]
        later = dice.random() < 0.2 if is_due is None else not is_due
        if later:
            email["send_at"] = _soon(dice).isoformat()
        if dice.random() < 0.05:
            ahead = timedelta(seconds=dice.uniform(2, 8) + 6 * later)
            email["expires_at"] = (datetime.now(UTC) + ahead).isoformat()
        return email

    def _recipient(self, dice: random.Random) -> str:
        return dice.choice(self._mailboxes) if dice.random() < 0.2 else _address(dice)


#: How often each act comes beside the others. A big batch is as much as a minute's other emails of a quarter of its acts.
ACTS: Mapping[str, float] = {
    "plain": 48,
    "keyed": 14,
    "disputed": 3,
    "withdrawn": 16,
    "put_off": 7,
    "batch": 4,
    "permissive": 3,
    "order": 6,
    "big_batch": 0.25,
}


def _plain_email(to: str) -> dict[str, Any]:
    return {"to": to, "subject": "Hello", "text": "Hello there"}


def _address(dice: random.Random) -> str:
    return f"{dice.getrandbits(48):012x}@example.com"


def _key(dice: random.Random) -> str:
    return f"key-{dice.getrandbits(64):016x}"


def _both(dice: random.Random) -> tuple[str, str]:
    one, other = dice.sample(REPLICAS, 2)
    return one, other


def _soon(dice: random.Random) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=dice.uniform(1, 6))
