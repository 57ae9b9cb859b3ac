"""The errors that mailstream raises towards people."""


class MailstreamError(Exception):
    """What happened, what was kept, what to do: in one text for people, without secrets or addresses."""


class BadAddress(MailstreamError, ValueError):
    """An address that no mail can go to. The text names the mistake, never the address."""


class BadEmailId(MailstreamError, ValueError):
    """Text that is not an email id."""


class WrongSettings(MailstreamError):
    """One line per mistake: name, what is wrong, what is allowed."""


class NoScratch(MailstreamError):
    """The file of a worker's statuses cannot be written or read: the process ends. Kafka has all that was in it."""


class NoKafka(MailstreamError):
    """No broker answers at the configured address, or none can be started."""


class PortTaken(MailstreamError):
    """Something else listens there. The text names the setting that moves the port."""


class NoApi(MailstreamError):
    """No API answers at the address that a command was given."""


class Refused(MailstreamError):
    """The API refused what a command asked. The text is the API's own."""


class NotStarted(MailstreamError):
    """A part of the local system ended by itself or was not ready in time. The text names its log."""


class TopicsDiffer(MailstreamError):
    """A topic is missing or has another partition count or policy than the emails were made for."""


class NotPublished(MailstreamError):
    """No acknowledgement. The record may be in the log all the same: only a repeat with the same id is safe."""


class PartitionLost(NotPublished):
    """The partition went to another worker before a claim was read back: this worker may not call."""


class NotCaughtUp(MailstreamError):
    """A view of the log is loading or cut off from Kafka: answer "not yet", never "not there"."""


class TemplateError(MailstreamError, ValueError):
    """A template that does not exist, cannot be used, or does not fit its data. Names file, line and path, no value."""


class WrongEndpoints(MailstreamError):
    """Endpoints of outgoing webhooks that cannot be used: one line per mistake."""


class RegistryAway(MailstreamError):
    """The schema registry does not answer: a domain event that needs it waits, as it would for Kafka."""


class WrongRules(MailstreamError):
    """Trigger rules that cannot be used: one line per mistake, with the line of the file."""


class OffsetGap(MailstreamError):
    """A stream skipped at least one offset. Nothing is committed; the process ends and reads again."""


class StatusesLost(MailstreamError):
    """Statuses of partitions are gone. ``mailstream audit rebuild`` makes them anew from the other topics."""


class WorkersRun(MailstreamError):
    """Workers are in their group, and the command needs all of them stopped."""


class LogLost(MailstreamError):
    """Records that are needed were deleted before they were read; how many."""

    def __init__(self, text: str, *, records: int = 0) -> None:
        super().__init__(text)
        self.records = records
