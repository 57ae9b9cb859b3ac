"""An answer goes out in one piece, and nothing of it stays behind."""

import asyncio

from api.joined_writes import JoinedWrites


class Sink(asyncio.Transport):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.is_closed = True


async def test_what_is_written_in_one_turn_of_the_loop_goes_out_at_once() -> None:
    sink = Sink()
    joined = JoinedWrites(sink, asyncio.get_running_loop())

    joined.write(b"head ")
    joined.write(b"body")
    await asyncio.sleep(0)
    joined.write(b"next")
    await asyncio.sleep(0)

    assert sink.written == [b"head body", b"next"]


async def test_a_close_sends_what_was_written_before_it() -> None:
    sink = Sink()
    joined = JoinedWrites(sink, asyncio.get_running_loop())

    joined.write(b"too slow")
    joined.close()
    await asyncio.sleep(0)

    assert (sink.written, sink.is_closed) == ([b"too slow"], True)
