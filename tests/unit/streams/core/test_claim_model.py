"""The claim protocol under every interleaving: the rules hold, and each simpler protocol that tempts is broken.

Read twice: by the few lines of the model (are the rules right?) and by ``streams.core`` (does the product keep them?).
Figures are printed with ``-s``.
"""

import pytest

from tests.support.claim_model import Finding, Scope, explore
from tests.support.claim_product import product
from tests.support.claim_rules import Kind, Reader, Record, Rules, sketch

PROTOCOL = Rules("the protocol")
RESEND = Rules("the protocol, with the marked resend", resends=True)
READERS = [pytest.param(sketch, id="read by the model"), pytest.param(product, id="read by the product")]


def found(rules: Rules, workers: int, room: int, *, strays: bool = False, read: Reader = sketch) -> Finding:
    finding = explore(Scope(rules, workers, room, strays=strays, read=read))
    print(f"\n{finding}")
    return finding


@pytest.mark.parametrize(
    ("rules", "breaks"),
    [
        (Rules("look at the log, then call", claims=False), "two accepted calls"),
        (Rules("write the intent, then call", reads_back=False, endings=False), "two accepted calls"),
        (Rules("RELEASED of anyone frees", only_winner_releases=False, endings=False), "two accepted calls"),
        (Rules("a lost answer is a refusal", only_proof_frees=False, endings=False), "two accepted calls"),
        (Rules("cancel what looks unsent", cancel_is_claimed=False), "shown as not sent"),
        (Rules("CANCELLED behind a doubt", resends=True, doubt_bars_cancelled=False), "shown as not sent"),
        (Rules("UNCONFIRMED by a timer", giving_up_is_claimed=False), "an end was shown, and a later attempt"),
    ],
    ids=lambda value: value.name if isinstance(value, Rules) else "",
)
def test_what_looks_simpler_is_broken(rules: Rules, breaks: str) -> None:
    finding = found(rules, workers=3, room=5)

    assert finding.breaks
    assert finding.breaks.startswith(breaks)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("rules", [PROTOCOL, RESEND], ids=lambda rules: rules.name)
def test_the_protocol_holds_for_three_workers(rules: Rules, read: Reader) -> None:
    finding = found(rules, workers=3, room=5, read=read)

    assert not finding.breaks
    assert finding.most_accepted == 1 + rules.resends, "every promise was put to the test"
    assert {"HELD", "SENT", "CANCELLED", "FAILED", "UNCONFIRMED", "RETRYING"} <= finding.shown


@pytest.mark.parametrize("read", READERS)
def test_it_holds_when_given_up_claims_come_back_as_winners(read: Reader) -> None:
    finding = found(PROTOCOL, workers=3, room=4, strays=True, read=read)

    assert not finding.breaks


@pytest.mark.parametrize("rules", [PROTOCOL, RESEND], ids=lambda rules: rules.name)
def test_it_holds_for_two_workers_and_a_longer_life(rules: Rules) -> None:
    finding = found(rules, workers=2, room=6, read=product)

    assert not finding.breaks


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("rules", "workers", "room", "strays", "read"),
    [
        (PROTOCOL, 3, 6, False, sketch),
        (PROTOCOL, 3, 6, False, product),
        (PROTOCOL, 3, 5, True, sketch),
        (PROTOCOL, 3, 5, True, product),
        (PROTOCOL, 2, 7, False, product),
        (RESEND, 3, 6, False, sketch),
        (RESEND, 3, 5, True, sketch),
        (RESEND, 3, 6, False, product),
        (RESEND, 3, 5, True, product),
    ],
)
def test_it_holds_in_the_long_run_too(rules: Rules, workers: int, room: int, strays: bool, read: Reader) -> None:
    finding = found(rules, workers, room, strays=strays, read=read)

    assert not finding.breaks


@pytest.mark.parametrize("read", READERS)
def test_a_release_behind_an_ended_attempt_is_only_a_fact(read: Reader) -> None:
    claim, held = Record(Kind.CALL, 1, 0), Record(Kind.HELD, 1, 0)
    given_up, late = Record(Kind.GIVE_UP, 2, 2), Record(Kind.RELEASED, 1, 0)

    story = read((claim, held, given_up, late), PROTOCOL)

    assert story.shows == "UNCONFIRMED"
    assert not story.may_call


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("late", [0, 2], ids=["of the first attempt", "of the resend"])
def test_late_acceptance_of_either_attempt_in_doubt_is_sent(late: int, read: Reader) -> None:
    assert read(both_in_doubt_then(Kind.ACCEPTED, late), RESEND).shows == "SENT"


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("refused", [0, 2], ids=["the first attempt", "the resend"])
def test_nothing_has_failed_while_the_other_attempt_is_in_doubt(refused: int, read: Reader) -> None:
    assert read(both_in_doubt_then(Kind.NOT_ACCEPTED, refused), RESEND).shows == "UNCONFIRMED"


def both_in_doubt_then(kind: Kind, nonce: int) -> tuple[Record, ...]:
    first, resend = Record(Kind.CALL, 1, 0), Record(Kind.CALL, 2, 2, is_marked=True)
    ended = Record(Kind.GIVE_UP, 3, 4)
    log = (first, Record(Kind.HELD, 1, 0), resend, Record(Kind.HELD, 2, 2), ended)
    return (*log, Record(kind, 1 if nonce == 0 else 2, nonce))
