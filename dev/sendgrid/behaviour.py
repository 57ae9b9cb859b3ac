"""What the emulator does wrong on order: rules by share, by number and by recipient, all from one seed."""

import fnmatch
import random
import re
from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

Do = Literal["status", "drop", "reset", "silent", "slow", "slow_body"]
#: Seconds, or a range to draw from.
Seconds = float | tuple[float, float]

#: Recipients that ask for a fault by their local part (``reset@…``, ``reset+17@…``, ``status-503@…``), at any domain.
_SCRIPTED: dict[str, Do] = {
    "reset": "reset", "drop": "drop", "silent": "silent", "slow": "slow", "slow-body": "slow_body",
}  # fmt: skip
_SCRIPTED_STATUS = re.compile(r"status-([2-5]\d\d)")


class Rule(Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One fault and when it happens. The first rule that applies decides.

    ``status``: answer with this code. ``drop``: take the mail, close without an answer. ``reset``: end the
    connection before the body is read, or after it when a recipient is named. ``silent``: take the mail, never answer.
    ``slow``: drip the whole answer at ``bytes_per_second``. ``slow_body``: the head at once, then drip the body.
    """

    do: Do
    status: int = 202  #: of the answer
    accepted: bool | None = None  #: whether the mail counts as taken; None: as SendGrid would (2xx, drop, silent: yes)
    headers: dict[str, str | None] = field(default_factory=dict)  #: added to the answer; null takes one away
    body: str | None = None  #: None: SendGrid's JSON for errors, empty for 2xx
    rate_limit_reset_seconds: float | None = None  #: adds X-RateLimit-* with a reset this far ahead
    bytes_per_second: float = 1.0
    share: float = 1.0  #: of the calls that it applies to
    next: int | None = None  #: how many calls it applies to, then it is used up
    skip: int = 0  #: calls to let pass before
    recipient: str | None = None  #: only calls to it; ``*`` and ``?`` as in file names

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError("status is from 200 to 599")
        if not 0 <= self.share <= 1:
            raise ValueError("share is from 0 to 1")
        if self.bytes_per_second <= 0:
            raise ValueError("bytes_per_second is above 0")
        if self.next is not None and self.next < 1:
            raise ValueError("next is at least 1")

    @property
    def comes_early(self) -> bool:
        """Whether it hits before the body is read: then nothing is known of the recipient."""
        return self.do == "reset" and self.recipient is None

    @property
    def takes_the_mail(self) -> bool:
        """Whether the mail is accepted, whatever the caller gets to see."""
        if self.accepted is not None:
            return self.accepted
        return self.do != "reset" and 200 <= self.status < 300


class Late(Struct, forbid_unknown_fields=True, kw_only=True):
    """Some events come late."""

    share: float
    seconds: tuple[float, float]


class WebhookOrders(Struct, forbid_unknown_fields=True, kw_only=True):
    """Where events go and what goes wrong with them on the way. Faults are off by default."""

    url: str | None = None  #: None: no events are made
    is_held: bool = False  #: nothing is posted until it is false again; what is due waits
    every_seconds: float = 0.2  #: how often what is due is posted (SendGrid: 30)
    batch: int = 500  #: events in one post, at most
    delay_seconds: Seconds = 0.0  #: from acceptance to ``processed``; ``delivered`` follows as much later again
    duplicate_share: float = 0.0  #: events that come twice
    duplicate_has_new_id: bool = False  #: with another sg_event_id the second time
    lost_share: float = 0.0  #: events that never come
    late: Late | None = None
    shuffle: bool = False  #: out of order within a post, and ``delivered`` before ``processed``
    is_signed: bool = True


class Orders(Struct, forbid_unknown_fields=True, kw_only=True):
    """``POST /behaviour``: members that are named are set, the others stay."""

    seed: int | UnsetType = UNSET
    latency_seconds: Seconds | UnsetType = UNSET
    rules: list[Rule] | UnsetType = UNSET
    verified_senders: list[str] | UnsetType | None = UNSET
    api_keys: list[str] | UnsetType | None = UNSET
    webhook: dict[str, Any] | UnsetType = UNSET


class Behaviour:
    """What is ordered at the moment."""

    def __init__(self, webhook_url: str | None = None) -> None:
        self._webhook_url = webhook_url
        self.reset()

    def reset(self) -> None:
        """As at the start: no faults, no latency."""
        self.seed: int | None = None
        self.random = random.Random()  # noqa: S311  faults, not secrets
        self.latency_seconds: Seconds = 0.0
        self.rules: list[Rule] = []
        self.verified_senders: list[str] | None = None  #: None: everyone may be the sender
        self.api_keys: list[str] | None = None  #: None: every key is good
        self.webhook = WebhookOrders(url=self._webhook_url)

    def order(self, body: bytes) -> None:
        """Take orders. Raises msgspec.ValidationError and changes nothing when one is wrong."""
        orders = msgspec.json.decode(body, type=Orders)
        webhook = self.webhook
        if orders.webhook is not UNSET:
            webhook = msgspec.convert(msgspec.to_builtins(webhook) | orders.webhook, WebhookOrders)
        self.webhook = webhook
        if orders.seed is not UNSET:
            self.seed = orders.seed
            self.random = random.Random(orders.seed)  # noqa: S311
        if orders.latency_seconds is not UNSET:
            self.latency_seconds = orders.latency_seconds
        if orders.rules is not UNSET:
            self.rules = orders.rules
        if orders.verified_senders is not UNSET:
            self.verified_senders = orders.verified_senders
        if orders.api_keys is not UNSET:
            self.api_keys = orders.api_keys

    def shown(self) -> dict[str, Any]:
        """The orders as they stand, used-up rules left out."""
        return {
            "seed": self.seed,
            "latency_seconds": self.latency_seconds,
            "rules": self.rules,
            "verified_senders": self.verified_senders,
            "api_keys": self.api_keys,
            "webhook": self.webhook,
        }

    def before_the_body(self) -> Rule | None:
        """The rule that ends a call before its body is read."""
        return self._first_of((rule for rule in self.rules if rule.comes_early), None)

    def for_recipient(self, recipient: str | None) -> Rule | None:
        """The rule that a call meets once its body is read. ``recipient``: the first one; None: unreadable."""
        if self.rules:
            rules = (rule for rule in self.rules if not rule.comes_early)
            if (rule := self._first_of(rules, recipient)) is not None:
                return rule
        return None if recipient is None else _scripted(recipient)

    def seconds(self, wait: Seconds) -> float:
        """A wait, drawn when it is a range."""
        return wait if isinstance(wait, int | float) else self.random.uniform(*wait)

    def _first_of(self, rules: Iterable[Rule], recipient: str | None) -> Rule | None:
        return next((rule for rule in rules if self._applies(rule, recipient)), None)

    def _applies(self, rule: Rule, recipient: str | None) -> bool:
        if rule.recipient is not None and not (
            recipient is not None and fnmatch.fnmatchcase(recipient.lower(), rule.recipient.lower())
        ):
            return False
        if rule.skip > 0:
            rule.skip -= 1
            return False
        if rule.share < 1 and self.random.random() >= rule.share:
            return False
        if rule.next is not None:
            rule.next -= 1
            if rule.next == 0:
                self.rules = [other for other in self.rules if other is not rule]
        return True


def _scripted(recipient: str) -> Rule | None:
    local = recipient.partition("@")[0].partition("+")[0].lower()
    if (do := _SCRIPTED.get(local)) is not None:
        return Rule(do=do)
    if found := _SCRIPTED_STATUS.fullmatch(local):
        return Rule(do="status", status=int(found[1]))
    return None
