"""What the triggers count."""

from prometheus_client import Counter, Gauge

#: Domain events by what became of them. A rise of ``failed`` or ``unreadable``: see the dead letters, their detail names
#: the rule. ``too_old``: a topic is replayed, or the workers were away longer than MAX_EVENT_AGE.
EVENTS = Counter("mailstream_domain_events_total", "Domain events read, by what became of them", ["result"])
#: 1 while changed rules or templates cannot be used: the old ones stay, and `mailstream triggers check` says why.
RULES_UNUSABLE = Gauge("mailstream_rules_unusable", "Changed trigger rules or templates could not be taken")
