"""Where each email stands, from ``email.status`` alone: what a worker would load."""

from collections.abc import Collection, Iterator

from mailstream.domain import topics
from mailstream.domain.codec import decode_status, decoded
from mailstream.domain.email_id import partition_in
from mailstream.domain.status import EmailStatus, merge
from mailstream.domain.topics import Naming
from mailstream.kafka.reader import Reader
from mailstream.settings import Settings


def statuses(
    reader: Reader,
    settings: Settings,
    ids: Collection[str] = (),
) -> Iterator[EmailStatus]:
    """The status of each email, or of each of these, partition by partition: the highest one that stands there.

    Raises BadEmailId.
    """
    wanted = {id_.encode() for id_ in ids}
    partitions = {partition_in(id_, settings.partitions) for id_ in ids} or range(settings.partitions)
    name = Naming(settings.topic_prefix).of(topics.STATUS)
    spans = [reader.span(name, partition) for partition in sorted(partitions)]
    reader.plan(spans)
    for span in spans:
        known: dict[bytes, EmailStatus] = {}
        for record in reader.records(span):
            key, value = record.key() or b"", record.value()
            if wanted and key not in wanted:
                continue
            if value is None:
                known.pop(key, None)
            elif (status := decoded(decode_status, value)) is not None:
                known[key] = merge(known.get(key), status)
        yield from known.values()
