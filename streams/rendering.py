"""Fill in what a request leaves open: the mail of a template that we render, unsubscribe headers."""

from collections.abc import Iterable
from typing import Any

from msgspec import structs

from mailstream.errors import TemplateError
from mailstream.request import EmailRequest
from mailstream.settings import Settings
from mailstream.templates import Templates


class Rendering:
    """Direct requests name a template and give data; API and triggers render before the record (amendment 31)."""

    def __init__(self, settings: Settings) -> None:
        """Raises TemplateError when a template of TEMPLATES_DIR cannot be used."""
        self.templates = Templates(settings.templates_dir) if settings.templates_dir else None

    def rendered(self, request: EmailRequest) -> EmailRequest:
        """The request with subject and body. Raises TemplateError, which names no value."""
        if request.template is None or request.text is not None or request.html is not None:
            return request
        if self.templates is None:
            raise TemplateError("the request names a template, and MAILSTREAM_TEMPLATES_DIR is not set")
        mail = self.templates.render(request.template, request.data, locale=request.locale)
        return structs.replace(request, subject=request.subject or mail.subject, text=mail.text, html=mail.html)

    def digest(self, request: EmailRequest, events: Iterable[dict[str, Any]]) -> EmailRequest:
        """The mail that tells several events, as the request's digest template has it. Raises TemplateError."""
        assert request.digest is not None
        if self.templates is None:
            raise TemplateError("the request names a digest template, and MAILSTREAM_TEMPLATES_DIR is not set")
        mail = self.templates.render(request.digest.template, {"events": list(events)}, locale=request.locale)
        return structs.replace(request, subject=mail.subject, text=mail.text, html=mail.html)
