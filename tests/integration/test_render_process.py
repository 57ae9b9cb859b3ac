"""A mail that takes too long costs its process, never the worker."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from mailstream.errors import TemplateError
from mailstream.render_process import RenderProcess

SLOW = "{% for a in l %}{% for b in l %}{% for c in l %}{% endfor %}{% endfor %}{% endfor %}"


def folder_with(tmp_path: Path, **bodies: str) -> Path:
    for name, body in bodies.items():
        folder = tmp_path / name / "1" / "en"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "subject.txt").write_text("Hi")
        (folder / "body.txt").write_text(body)
    return tmp_path


async def test_a_slow_template_is_killed_and_the_next_mail_is_rendered(tmp_path: Path) -> None:
    renderer = RenderProcess(folder_with(tmp_path, slow=SLOW, good="{{ x }}"))

    with pytest.raises(TemplateError, match="template slow: rendering took more than 200 ms and was stopped"):
        await renderer.render("slow", {"l": list(range(2000))})

    assert (await renderer.render("good", {"x": "1"})).text == "1"
    await renderer.close()


async def test_a_loop_in_c_is_killed_too(tmp_path: Path) -> None:
    renderer = RenderProcess(folder_with(tmp_path, wrap="{{ ('x ' * 20000000) | wordwrap(1) | length }}"))

    with pytest.raises(TemplateError, match=r"stopped|MemoryError|too much memory"):
        await renderer.render("wrap", {})
    await renderer.close()


async def test_a_template_that_wants_all_memory_gets_none(tmp_path: Path) -> None:
    renderer = RenderProcess(folder_with(tmp_path, big="{% set x = 'x' * 2000000000 %}"))

    with pytest.raises(TemplateError, match="MemoryError"):
        await renderer.render("big", {})
    await renderer.close()


async def test_a_process_that_dies_or_hangs_is_replaced(tmp_path: Path) -> None:
    renderer = RenderProcess(folder_with(tmp_path, good="{{ x }}"), answer_seconds=5.0)
    await renderer.render("good", {"x": "1"})
    child = renderer._child
    assert child is not None

    os.kill(child.pid, signal.SIGSTOP)
    assert (await renderer.render("good", {"x": "2"})).text == "2"

    assert renderer._child is not None
    assert renderer._child is not child
    os.kill(renderer._child.pid, signal.SIGKILL)
    assert (await renderer.render("good", {"x": "3"})).text == "3"
    await renderer.close()


async def test_a_process_that_never_comes_up_is_a_mistake_and_no_wait_for_ever(tmp_path: Path) -> None:
    renderer = RenderProcess(tmp_path / "nowhere")

    with pytest.raises(TemplateError, match="ended 3 times"):
        await renderer.render("good", {})


async def test_an_ask_that_is_given_up_does_not_shift_the_next_answer(tmp_path: Path) -> None:
    renderer = RenderProcess(folder_with(tmp_path, good="{{ x }}"))
    await renderer.render("good", {"x": "0"})

    for n in range(20):
        given_up = asyncio.create_task(renderer.render("good", {"x": "old"}))
        for _ in range(n % 4):
            await asyncio.sleep(0)
        given_up.cancel()
        assert (await renderer.render("good", {"x": str(n)})).text == str(n)
        await asyncio.gather(given_up, return_exceptions=True)
    await renderer.close()


async def test_a_changed_template_is_rendered_after_a_reload(tmp_path: Path) -> None:
    renderer = RenderProcess(folder_with(tmp_path, good="old"))
    assert (await renderer.render("good", {})).text == "old"

    folder_with(tmp_path, good="new")
    assert (await renderer.render("good", {})).text == "old"
    await renderer.reload()

    assert (await renderer.render("good", {})).text == "new"
    await renderer.close()


async def test_mistakes_come_through_and_strange_data_is_one(tmp_path: Path) -> None:
    renderer = RenderProcess(folder_with(tmp_path, good="{{ customer.name }}"))

    with pytest.raises(TemplateError, match=r"good/1/en/body\.txt line 1: data has no customer\.name"):
        await renderer.render("good", {"customer": {}})
    for strange in (object(), 2**70, {1, 2}):
        with pytest.raises(TemplateError):
            await renderer.render("good", {"customer": strange})
    await renderer.close()


async def test_the_process_sees_no_variable_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILSTREAM_SENDGRID_API_KEY", "canary")
    renderer = RenderProcess(folder_with(tmp_path, good="x"))
    await renderer.render("good", {})

    assert renderer._child is not None
    assert b"canary" not in Path(f"/proc/{renderer._child.pid}/environ").read_bytes()
    await renderer.close()
