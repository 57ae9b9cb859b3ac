"""A mail that takes too long costs its process, never the worker."""

import asyncio
import signal
from pathlib import Path

import psutil
import pytest
import uvloop

from mailstream.domain.errors import TemplateError
from mailstream.templates.render_process import RenderProcess

SLOW = "{% for a in l %}{% for b in l %}{% for c in l %}{% endfor %}{% endfor %}{% endfor %}"


def folder_with(tmp_path: Path, **bodies: str) -> Path:
    for name, body in bodies.items():
        folder = tmp_path / name / "1" / "en"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "subject.txt").write_text("Hi")
        (folder / "body.txt").write_text(body)
    return tmp_path


def child_of(folder: Path) -> psutil.Process:
    """The process that renders this folder."""
    (child,) = [child for child in psutil.Process().children() if child.cmdline()[-1] == str(folder)]
    return child


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
    first = child_of(tmp_path)

    first.send_signal(signal.SIGSTOP)
    assert (await renderer.render("good", {"x": "2"})).text == "2"

    second = child_of(tmp_path)
    assert second.pid != first.pid
    second.kill()
    assert (await renderer.render("good", {"x": "3"})).text == "3"
    await renderer.close()


async def test_a_process_that_dies_with_many_mails_in_work_loses_and_mixes_none(tmp_path: Path) -> None:
    renderer = RenderProcess(folder_with(tmp_path, good="{{ x }}"))
    await renderer.render("good", {"x": "0"})

    asked = [asyncio.create_task(renderer.render("good", {"x": str(n)})) for n in range(300)]
    await asyncio.sleep(0.005)
    child_of(tmp_path).kill()

    assert [mail.text for mail in await asyncio.gather(*asked)] == [str(n) for n in range(300)]
    await renderer.close()


async def test_a_template_that_loops_ends_its_own_mails_and_holds_no_others(tmp_path: Path) -> None:
    renderer = RenderProcess(folder_with(tmp_path, slow=SLOW, good="{{ x }}"))
    await renderer.render("good", {"x": "0"})
    begun = asyncio.get_running_loop().time()

    slow = [asyncio.create_task(renderer.render("slow", {"l": list(range(2000))})) for _ in range(10)]
    good = [asyncio.create_task(renderer.render("good", {"x": str(n)})) for n in range(10)]

    assert [mail.text for mail in await asyncio.gather(*good)] == [str(n) for n in range(10)]
    waited = asyncio.get_running_loop().time() - begun
    assert not all(task.done() for task in slow)
    assert all(isinstance(end, TemplateError) for end in await asyncio.gather(*slow, return_exceptions=True))
    assert waited < (asyncio.get_running_loop().time() - begun) / 2
    await renderer.close()


async def test_what_waits_when_it_is_closed_is_cancelled(tmp_path: Path) -> None:
    renderer = RenderProcess(folder_with(tmp_path, good="{{ x }}"))
    asked = asyncio.create_task(renderer.render("good", {"x": "1"}))
    await asyncio.sleep(0)

    await renderer.close()

    with pytest.raises(asyncio.CancelledError):
        await asked


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

    assert "MAILSTREAM_SENDGRID_API_KEY" not in child_of(tmp_path).environ()
    await renderer.close()


def test_a_process_that_ended_while_idle_is_replaced_on_the_loop_of_a_worker_too(tmp_path: Path) -> None:
    async def asked() -> str | None:
        renderer = RenderProcess(folder_with(tmp_path, good="{{ x }}"))
        await renderer.render("good", {"x": "1"})
        child_of(tmp_path).kill()
        await asyncio.sleep(0.3)  # the loop has seen its end
        text = (await renderer.render("good", {"x": "2"})).text
        await renderer.close()
        return text

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(asked()) == "2"
