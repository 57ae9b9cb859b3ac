"""Every test here has topics of its own on the shared broker."""

from collections.abc import Iterator

import pytest

from mailstream.settings import Settings
from tests.support.api import api_settings, some_topics
from tests.support.broker import Kafka


@pytest.fixture
def settings(kafka: Kafka) -> Iterator[Settings]:
    found = api_settings(kafka.bootstrap)
    with some_topics(found):
        yield found
