"""What our accept is measured beside: the app that a team would write first, with the client as it comes.

No keys, no idempotency, no look-up.
"""

import asyncio
import os
import threading
from functools import partial

from confluent_kafka import KafkaError, Message, Producer
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

app = FastAPI()
producer = Producer({"bootstrap.servers": os.environ["PLAIN_BOOTSTRAP"]})
threading.Thread(target=lambda: [producer.poll(0.1) for _ in iter(int, 1)], daemon=True).start()


class Mailbox(BaseModel):
    email: str
    name: str | None = None


class Email(BaseModel):
    to: Mailbox
    subject: str
    text: str | None = None
    html: str | None = None
    reference: str | None = None
    tags: list[str] = []


def told(done: "asyncio.Future[None]", error: KafkaError | None, _: Message) -> None:
    done.get_loop().call_soon_threadsafe(done.set_result if error is None else done.set_exception, error)


@app.post("/v1/emails", status_code=202)
async def ask(email: Email) -> dict[str, str]:
    done = asyncio.get_running_loop().create_future()
    producer.produce(
        os.environ["PLAIN_TOPIC"], email.model_dump_json(), email.to.email, on_delivery=partial(told, done)
    )
    try:
        await done
    except Exception:
        raise HTTPException(503) from None
    return {"status": "QUEUED"}
