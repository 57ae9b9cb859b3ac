"""No metric is only declared: an alert on one that nobody feeds would never fire."""

import re
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

import streams.metrics
import streams.triggers.metrics

CODE = Path(streams.metrics.__file__).parent


@pytest.mark.parametrize("module", [streams.metrics, streams.triggers.metrics], ids=lambda module: module.__name__)
def test_each_metric_of_the_worker_is_fed(module: object) -> None:
    own = Path(vars(module)["__file__"])  # where children are looked up once
    files = [path.read_text() for path in CODE.rglob("*.py")]
    source = own.read_text() + "".join(text for text in files if re.search(rf"\b{own.stem}\b", text))
    names = [name for name, value in vars(module).items() if isinstance(value, MetricWrapperBase)]

    assert names
    unfed = [name for name in names if not re.search(rf"\b{name}\.(labels|inc|set|set_function|observe)\(", source)]
    assert not unfed
