"""Records on Kafka: the bytes that were ever written stay readable, and the schemas say what the models do."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsoncompat
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError
from msgspec import Struct

from dev import contract_files, schemas
from mailstream.domain import codec
from tests.support import golden

ROOT = Path(__file__).parents[2]
DECODE: dict[str, Callable[[bytes], Struct]] = {
    "email.requested.v1": codec.decode_requested,
    "email.attempts.v1": codec.decode_attempt,
    "email.status.v1": codec.decode_status,
    "email.events.v1": codec.decode_event,
    "email.suppressions.v1": codec.decode_suppression,
}
each_golden = pytest.mark.parametrize("name", golden.RECORDS)
each_record = pytest.mark.parametrize("record", schemas.RECORDS)


def validator(record: str) -> Draft202012Validator:
    return Draft202012Validator(schemas.schema_of(record), format_checker=Draft202012Validator.FORMAT_CHECKER)


@each_golden
def test_golden_bytes_are_read_as_what_they_said(name: str) -> None:
    read = DECODE[name.partition("/")[0]](golden.file_of(name).read_bytes())

    assert read == golden.RECORDS[name]


@each_golden
def test_a_record_is_written_as_the_golden_bytes(name: str) -> None:
    assert codec.encode(golden.RECORDS[name]) == golden.file_of(name).read_bytes()


@each_golden
def test_golden_bytes_fit_the_schema_and_name_their_record(name: str) -> None:
    record = name.partition("/")[0]

    validator(record).validate(msgspec.json.decode(golden.file_of(name).read_bytes()))

    assert (codec.RECORD_HEADER, record.encode()) in codec.headers_of(golden.RECORDS[name])


def test_there_are_golden_bytes_of_every_shape_and_no_others() -> None:
    shapes = {kind for kinds in schemas.RECORDS.values() for kind in kinds}

    assert {type(record) for record in golden.RECORDS.values()} == shapes
    assert {str(path.relative_to(golden.FOLDER)) for path in golden.FOLDER.rglob("*.v1/*.json")} == {
        f"{name}.json" for name in golden.RECORDS
    }


@pytest.mark.parametrize(
    "shape", dict.fromkeys(kind for kinds in schemas.RECORDS.values() for kind in kinds), ids=lambda kind: kind.__name__
)
def test_every_member_stands_in_golden_bytes(shape: type[Struct]) -> None:
    members = {field.encode_name for field in msgspec.structs.fields(shape)}
    said = [msgspec.to_builtins(record) for record in golden.RECORDS.values() if type(record) is shape]

    assert members <= {member for record in said for member in record}


def test_a_claim_with_a_member_that_is_gone_is_read() -> None:
    claim = msgspec.json.decode(golden.file_of("email.attempts.v1/claim").read_bytes()) | {"turn": 17}

    assert codec.decode_attempt(msgspec.json.encode(claim)) == golden.RECORDS["email.attempts.v1/claim"]


@each_golden
def test_what_a_newer_version_adds_is_no_mistake_for_an_older_reader(name: str) -> None:
    value = msgspec.json.decode(golden.file_of(name).read_bytes())
    record = name.partition("/")[0]

    newer = {**value, "added_later": {"a": [1]}}

    assert DECODE[record](msgspec.json.encode(newer)) == golden.RECORDS[name]
    validator(record).validate(newer)


def test_the_schema_files_are_those_of_the_models() -> None:
    there = {path.name: path.read_bytes() for path in (ROOT / "schemas").glob("*.json")}

    assert there == contract_files.files(), "run: python -m dev.contract_files schemas"


@each_record
def test_a_schema_is_valid_by_its_own_dialect(record: str) -> None:
    Draft202012Validator.check_schema(schemas.schema_of(record))


@each_record
def test_a_schema_has_not_changed_in_a_way_that_breaks_a_reader_or_a_writer(record: str) -> None:
    """The released schemas are copied to ``golden/released`` with each release; a breaking record is a ``v2``."""
    released = msgspec.json.decode((golden.FOLDER / "released" / f"{record}.json").read_bytes())

    assert is_compatible(released, schemas.schema_of(record))


def is_compatible(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether an older reader takes what is written now, and we take what was written then.

    What was written then had the members of then and no others: so the second question is asked of closed objects, or
    any new member would seem to break a record that used its name for something else.
    """
    now = jsoncompat.check_compat(_text_of(before), _text_of(after), "serializer")
    then = jsoncompat.check_compat(_text_of(before, is_closed=True), _text_of(after, is_closed=True), "deserializer")
    return now and then


def _text_of(schema: dict[str, Any], *, is_closed: bool = False) -> str:
    """The check takes no ``$id``."""
    plain = {name: part for name, part in schema.items() if name != "$id"}
    if is_closed:
        parts = plain["$defs"].items()
        plain["$defs"] = {
            name: part | {"additionalProperties": False} if "properties" in part else part for name, part in parts
        }
    return msgspec.json.encode(plain).decode()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda s: s["$defs"]["EmailStatus"]["required"].append("provider"), id="a member becomes required"
        ),
        pytest.param(
            lambda s: s["$defs"]["EmailStatus"]["properties"]["id"].update(type="integer"), id="a type changes"
        ),
        pytest.param(lambda s: s["$defs"]["Status"]["enum"].remove("SENT"), id="a value goes"),
    ],
)
def test_the_compatibility_check_sees_what_breaks(change: Callable[[Any], None]) -> None:
    before, after = schemas.schema_of("email.status.v1"), schemas.schema_of("email.status.v1")
    change(after)

    assert not is_compatible(before, after)


def test_the_compatibility_check_lets_a_member_be_added() -> None:
    before, after = schemas.schema_of("email.status.v1"), schemas.schema_of("email.status.v1")
    after["$defs"]["EmailStatus"]["properties"]["added"] = {"type": "integer", "default": 0}

    assert is_compatible(before, after)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


@given(st.sampled_from(sorted(golden.RECORDS)), st.randoms(use_true_random=False), json_values)
def test_what_the_codec_takes_the_schema_takes_too(name: str, chance: random.Random, strange: Any) -> None:
    """One member of a good record is replaced by anything: never may the schema refuse what a worker would send."""
    record = name.partition("/")[0]
    value = msgspec.json.decode(golden.file_of(name).read_bytes())
    value[chance.choice(sorted(value))] = strange
    try:
        DECODE[record](msgspec.json.encode(value))
    except codec.Undecodable:
        return

    try:
        validator(record).validate(value)
    except ValidationError as error:
        pytest.fail(f"{record}: {list(error.absolute_path)}: {error.message}")
