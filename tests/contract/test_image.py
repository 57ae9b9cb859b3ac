"""The image: what goes into it is what the tests ran with, by hash. Building it is `make image`."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def locked(name: str) -> dict[str, str]:
    """Package → version in a lock file."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", (ROOT / name).read_text(), re.MULTILINE))


def test_the_image_gets_the_versions_that_the_tests_ran_with() -> None:
    everything, runtime = locked("requirements.lock"), locked("requirements-runtime.lock")

    assert len(runtime) > 30
    assert runtime.items() <= everything.items()
    assert not {"pytest", "mypy", "testcontainers", "schemathesis"} & runtime.keys()


def test_every_package_in_the_image_is_locked_by_hash() -> None:
    for name in ("requirements-build.lock", "requirements-runtime.lock"):
        entries = [e for e in re.split(r"\n(?=\S)", (ROOT / name).read_text()) if "==" in e.partition("\n")[0]]
        assert entries
        assert all("--hash=sha256:" in entry for entry in entries)

    installs = re.findall(r"pip[^\n]* install ([^\n\\]*)", DOCKERFILE)
    assert installs
    assert all("--require-hashes" in install or "--no-index" in install for install in installs)


def test_the_image_runs_as_a_number_that_is_not_root_with_the_role_as_argument() -> None:
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["mailstream"\]$', DOCKERFILE, re.MULTILINE)
