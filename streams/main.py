"""The worker's app by the settings of the environment, for Faust's own command: ``faust -A streams.main worker``.

``agents`` and ``tables`` need no broker: nothing is connected before a worker starts.
"""

import asyncio

import uvloop

from mailstream.domain.errors import MailstreamError
from mailstream.settings import load
from streams.app import create_app

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # the command takes its loop before it makes a worker

try:
    app = create_app(load())
except MailstreamError as error:
    raise SystemExit(str(error)) from None
