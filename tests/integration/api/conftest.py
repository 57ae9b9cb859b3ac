"""Every test here has topics of its own on the shared broker."""

import os
from collections.abc import Iterator

import pytest

from mailstream.settings import Settings
from tests.support.api import api_settings, some_topics


@pytest.fixture
def settings() -> Iterator[Settings]:
    bootstrap = os.environ.get("MAILSTREAM_KAFKA_BOOTSTRAP")
    if not bootstrap:
        pytest.skip("No Kafka: run `mailstream dev kafka` and set MAILSTREAM_KAFKA_BOOTSTRAP")
    found = api_settings(bootstrap)
    with some_topics(found):
        yield found
