"""No reference leads out of the repository, or to nothing in it."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.toml", "*.yaml", "*.sh", "Makefile"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()
    if (ROOT / name).is_file()
]  # fmt: skip
PAGES = [path for path in TEXTS if path.suffix == ".md"]
#: Papers that the project was begun with, and their codes: what they said stands where it is needed.
OUTSIDE = re.compile(
    r"§|\bamendments?\b|\b(?:sendgrid|style|security|design|house|starts|domain-events)\.md\b|\b[GK][0-9]{1,2}\b"
)
#: A paper of an RFC or of a library may be cited by its sections.
CITED = re.compile(r"RFC [0-9]+[^.;)]{0,20}§")
LINK = re.compile(r"\]\(([^)#\s]+)")
PLACE = re.compile(r"`((?:api|cli|dev|docs|k8s|mailstream|schemas|streams|tests)/[\w./-]+)`")


def test_nothing_refers_to_a_paper_outside_the_repository() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in TEXTS
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if OUTSIDE.search(CITED.sub("", line))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_place_of_a_page_is_there(page: Path) -> None:
    text = page.read_text()
    linked = [link for link in LINK.findall(text) if "://" not in link and not link.startswith("mailto:")]
    named = [] if page.name == "CHANGELOG.md" else PLACE.findall(text)
    missing = [link for link in linked if not (page.parent / link).exists()]
    missing += [place for place in named if not (ROOT / place).exists() and "…" not in place and "*" not in place]
    assert not missing
