"""Answers that are written without their model say what the model would."""

import pytest

from api import responses
from api.schemas import Links, Receipt

ID = "em_1c2f9a3b_0192f0c1b2a37c4d8e5f60718293a4b5"


@pytest.mark.parametrize("reference", [None, "order-17", 'with "quotes" / and ünïcode \U0001f4e7 \x7f'])
def test_a_receipt_is_the_json_of_its_model(reference: str | None) -> None:
    self = f"/v1/emails/{ID}"
    told = Receipt(id=ID, reference=reference, links=Links(self=self, events=f"{self}/events"))

    assert responses.receipt(ID, reference) == told.model_dump_json().encode()
