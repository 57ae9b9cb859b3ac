"""What became of a domain event, for the count."""

from enum import StrEnum


class TriggerResult(StrEnum):
    """Each is a value of the label ``result`` of ``mailstream_domain_events_total``."""

    ASKED = "asked"  #: at least one mail was asked for or cancelled, and nothing failed
    PASSED_OVER = "passed_over"  #: rules read its type, and none applied
    UNCONCERNED = "unconcerned"  #: no rule reads its type, or the record only deletes
    TOO_OLD = "too_old"  #: older than MAX_EVENT_AGE: its mail may have been sent and forgotten
    FAILED = "failed"  #: a rule gave no mail, or less than it should: a dead letter
    UNREADABLE = "unreadable"  #: no domain event: a dead letter
