import json
import subprocess
from pathlib import Path

from dev import asyncapi, schemas
from mailstream.domain import topics
from tests.support.foreign import node_folder

ROOT = Path(__file__).parents[2]
FILE = ROOT / "schemas" / "asyncapi.json"


def test_every_topic_is_in_it_and_every_shape_of_a_record() -> None:
    document = asyncapi.document()

    assert set(document["channels"]) == {topic.name for topic in topics.ALL}
    shapes = {kind.__name__ for kinds in schemas.RECORDS.values() for kind in kinds}
    assert set(document["components"]["messages"]) == shapes | {"DeadLetter"}


def test_the_official_parser_has_nothing_against_it() -> None:
    folder = node_folder()

    done = subprocess.run(
        ["node", str(folder / "check_asyncapi.js"), str(FILE)], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == ""


def test_the_official_parser_sees_a_mistake(tmp_path: Path) -> None:
    document = asyncapi.document()
    document["operations"]["receive-email.requested"]["channel"] = {"$ref": "#/channels/nowhere"}
    file = tmp_path / "asyncapi.json"
    file.write_text(json.dumps(document))

    done = subprocess.run(
        ["node", str(node_folder() / "check_asyncapi.js"), str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert "nowhere" in done.stdout
