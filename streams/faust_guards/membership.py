"""What aiokafka's consumer knows of its group and keeps to itself: when the group last confirmed us, and that it ended.

Private API in use, hence the exact pin of aiokafka: ``_coordinator._send_req``, ``_coordinator._coordination_task``,
``_coordinator._push_error_to_user``, ``_fetcher._fetch_task``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiokafka.protocol.group import HeartbeatRequest, SyncGroupRequest

from mailstream.clock import boot_time
from mailstream.domain.errors import NotCaughtUp


def note(coordinator: Any, heard: Callable[[float], None]) -> None:
    """Call ``heard`` with a boot time, in seconds, at which the group certainly knew this member.

    That is the time before the request was sent, whose answer says so: a process that is paused before it handles the
    answer must not look fresh when it wakes up. A heartbeat that is answered "rebalance in progress" says nothing of the
    kind: the partitions may be another's already.
    """
    send: Callable[[Any], Awaitable[Any]] = coordinator._send_req

    async def send_and_note(request: Any) -> Any:
        asked_at = boot_time()
        answer = await send(request)
        if isinstance(request, HeartbeatRequest | SyncGroupRequest) and answer.error_code == 0:
            heard(asked_at)
        return answer

    coordinator._send_req = send_and_note


def watch(consumer: Any, failed: Callable[[Exception], None]) -> None:
    """Call ``failed`` with NotCaughtUp when the consumer takes part in its group, or reads, no more.

    Stock waits then, for ever, for a call that Faust never makes; its member is thrown out of the group meanwhile.
    """
    coordinator, group = consumer._coordinator, consumer._group_id
    push: Callable[[Exception], Awaitable[Any]] = coordinator._push_error_to_user

    def tell(what: str, error: BaseException | None) -> None:
        why = NotCaughtUp(
            f"{what} ({type(error).__name__ if error else 'it just ended'}). The process ends, and nothing is lost: what "
            f"was not settled is read again. Look at the brokers, and at what this user may do in the group {group}."
        )
        why.__cause__ = error
        failed(why)

    def push_and_tell(error: Exception) -> Awaitable[Any]:
        tell("The worker can take part in its group no more", error)
        return push(error)

    def ended(what: str, task: "asyncio.Task[Any]") -> None:
        if not consumer._closed:
            tell(what, None if task.cancelled() else task.exception())

    coordinator._push_error_to_user = push_and_tell
    coordinator._coordination_task.add_done_callback(partial(ended, "The worker can take part in its group no more"))
    consumer._fetcher._fetch_task.add_done_callback(partial(ended, "The worker reads requests and events no more"))
