"""Fill in what a request leaves open: the mail of a template. In a process of its own, so no mail holds the loop."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from msgspec import structs

from mailstream.domain import codec
from mailstream.domain.dead_letter import Reason
from mailstream.domain.errors import TemplateError
from mailstream.domain.request import EmailRequest
from mailstream.domain.topics import MAX_REQUEST_BYTES
from mailstream.settings import Settings
from mailstream.templates.catalog import Templates
from mailstream.templates.render_process import RenderProcess
from streams.core.intake import ParsedRequest


class Rendering:
    """Direct requests name a template and give data; API and triggers render before the record."""

    def __init__(self, settings: Settings) -> None:
        """Raises TemplateError when a template of TEMPLATES_DIR cannot be used."""
        if settings.templates_dir:
            Templates(settings.templates_dir)  # says at the start what cannot be used
        self.process = RenderProcess(settings.templates_dir)

    def is_open(self, request: EmailRequest) -> bool:
        """Whether the request has no content but its template's."""
        return request.template is not None and request.text is None and request.html is None

    async def rendered(self, request: EmailRequest) -> EmailRequest:
        """The request with subject and body. Raises TemplateError, which names no value."""
        if not self.is_open(request):
            return request
        assert request.template is not None
        mail = await self.process.render(request.template, request.data, request.locale)
        return structs.replace(request, subject=request.subject or mail.subject, text=mail.text, html=mail.html)

    def is_needed(self, request: EmailRequest) -> bool:
        """Whether anything has to be rendered before the request may be taken."""
        return request.digest is not None or self.is_open(request)

    async def of(self, asked: ParsedRequest) -> ParsedRequest:
        """Missing data is an error at accept time, not when the turn comes: then it has a fault.

        The body that is kept for its turn is the rendered one, so most mails are rendered once. What follows from the
        record in the log, such as its status, is not touched.
        """
        try:
            request = await self.rendered(asked.request)
            if request.digest is not None:
                await self.digest(request, [request.data])
        except TemplateError as error:
            return replace(asked, fault=(Reason.TEMPLATE_FAILED, str(error)))
        if request is asked.request:
            return asked
        body = codec.encode(request if request.digest is not None else structs.replace(request, data={}))
        if len(body) > MAX_REQUEST_BYTES:
            return asked  # rendered again in its turn
        return replace(asked, received=replace(asked.received, value=body))

    async def digest(self, request: EmailRequest, events: Iterable[dict[str, Any]]) -> EmailRequest:
        """The mail that tells several events, as the request's digest template has it. Raises TemplateError."""
        assert request.digest is not None
        mail = await self.process.render(request.digest.template, {"events": list(events)}, request.locale)
        return structs.replace(request, subject=mail.subject, text=mail.text, html=mail.html)
