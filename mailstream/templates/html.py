"""Html as mail clients take it: from MJML, with its CSS inline, its text form, and the links that it may carry."""

import html
import re
from html.parser import HTMLParser

import css_inline
import mrml

from mailstream.domain.errors import TemplateError

#: Attributes that a client follows or loads.
_LINK = re.compile(
    r"""[\s"'/](?:href|src|action|formaction|background|poster)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""",
    re.IGNORECASE,
)
#: Clients drop these inside a scheme, so a check that keeps them can be fooled.
_IGNORED = re.compile(r"[\x00-\x20\x7f]")
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):")
_ALLOWED = frozenset({"https", "mailto", "cid"})  # cid: an image that rides along as attachment

_SILENT = frozenset({"head", "script", "style", "template", "title"})
#: What a tag does to the text: a new line, a new line where none is begun, an empty line before it, or the next cell.
_LINE, _BLOCK, _APART, _CELL = "\n", "\v", "\f", "\t"
_MARKS = (
    {"br": _LINE, "td": _CELL, "th": _CELL}
    | dict.fromkeys(
        ["address", "article", "div", "dl", "dt", "figure", "footer", "form", "header", "hr", "li", "main", "nav", "pre",
         "section", "tr"],
        _BLOCK,
    )
    | dict.fromkeys(["blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "ol", "p", "table", "ul"], _APART)
)  # fmt: skip
_BREAKS = re.compile(r"[ \t\xa0]*[\n\v\f][ \t\xa0\n\v\f]*")
_CELLS = re.compile(r" *\t[ \t]*")

#: Nothing is fetched for a mail, neither from the net nor from a disk.
_inliner = css_inline.CSSInliner(load_remote_stylesheets=False, keep_link_tags=True, keep_at_rules=True)


def from_mjml(source: str) -> str:
    """The html of an MJML document. Raises TemplateError."""
    try:
        return mrml.to_html(source).content
    except Exception:  # its text quotes the document
        raise TemplateError("this is not an MJML document, or it includes a file") from None


def with_inline_css(source: str) -> str:
    """The html with its style sheets moved into the elements: many clients drop a sheet. @media rules stay behind."""
    if "<style" not in source:
        return source
    try:
        return _inliner.inline(source)
    except css_inline.InlineError:
        raise TemplateError("a style sheet of the mail cannot be read") from None


def forbidden_link(source: str) -> str | None:
    """What is wrong with a link or an image address in the html, for people; None when all may stand."""
    for found in _LINK.finditer(source):
        address = _IGNORED.sub("", html.unescape(found[1] or found[2] or found[3] or ""))
        if address.startswith("//"):
            return "a link without a scheme"
        scheme = _SCHEME.match(address)
        if scheme and scheme[1].lower() not in _ALLOWED:
            return "a link with a scheme that mail clients must not follow"
    return None


def to_text(source: str) -> str:
    """The text form of an html body: blocks on lines of their own, links with their address behind them."""
    reader = _Reader()
    reader.feed(source)
    reader.close()
    lines = _BREAKS.sub(_new_lines, re.sub(" +", " ", "".join(reader.parts)))
    return _CELLS.sub("  ", lines).strip() + "\n"


def _new_lines(breaks: re.Match[str]) -> str:
    """What these breaks come to: never two empty lines after each other."""
    count = 0
    for mark in breaks[0]:
        count = count + 1 if mark == _LINE else max(count, {_BLOCK: 1, _APART: 2}.get(mark, 0))
    return "\n" * min(count, 2)


class _Reader(HTMLParser):
    """Collects the text, with the marks of what lays it out."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0
        self._links: list[tuple[str, int]] = []  #: address, and the part where its text begins

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.parts.append(_MARKS.get(tag, ""))
        if tag in _SILENT:
            self._silent += 1
        elif tag == "li":
            self.parts.append("- ")
        elif tag == "a":
            self._links.append((dict(attrs).get("href") or "", len(self.parts)))
        elif tag == "img":
            self.handle_data(dict(attrs).get("alt") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag == "a" and self._links:
            address, start = self._links.pop()
            said = " ".join("".join(self.parts[start:]).split())
            if address.startswith(("https:", "mailto:")) and address.removeprefix("mailto:") != said:
                self.parts.append(f" ({address.removeprefix('mailto:')})")
        elif (mark := _MARKS.get(tag)) in (_BLOCK, _APART):
            self.parts.append(mark)

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(re.sub(r"[ \t\r\n\v\f]+", " ", data))
