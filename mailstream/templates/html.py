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
_BLOCK = frozenset(
    {"address", "article", "blockquote", "div", "dl", "dt", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5",
     "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "table", "tr", "ul"}
)  # fmt: skip
_APART = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "blockquote"})


#: Nothing is fetched for a mail, neither from the net nor from a disk (security.md S9).
_inliner = css_inline.CSSInliner(load_remote_stylesheets=False, keep_link_tags=True, keep_at_rules=True)


def from_mjml(source: str) -> str:
    """The html of an MJML document. Raises TemplateError."""
    try:
        return mrml.to_html(source).content
    except Exception:  # its text quotes the document
        raise TemplateError("this is no MJML document, or it includes a file") from None


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
    return reader.text()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._lines: list[str] = [""]
        self._silent = 0
        self._links: list[tuple[str, int, int]] = []  # address, line and column where its text began

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        elif tag == "br":
            self._lines.append("")
        elif tag in _BLOCK:
            self._break(apart=tag in _APART)
        if tag == "li":
            self._lines[-1] = "- "
        elif tag in ("td", "th") and self._lines[-1].strip():
            self._lines[-1] += "  "
        elif tag == "a":
            address = dict(attrs).get("href") or ""
            self._links.append((address, len(self._lines) - 1, len(self._lines[-1])))
        elif tag == "img":
            self.handle_data(dict(attrs).get("alt") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag == "a" and self._links:
            address, line, column = self._links.pop()
            said = " ".join([self._lines[line][column:], *self._lines[line + 1 :]]).strip()
            if address.startswith(("https:", "mailto:")) and address.removeprefix("mailto:") != said:
                self._lines[-1] += f" ({address.removeprefix('mailto:')})"
        elif tag in _BLOCK:
            self._break(apart=tag in _APART)

    def handle_data(self, data: str) -> None:
        if self._silent or not data:
            return
        words = re.sub(r"[ \t\r\n\f]+", " ", data)
        self._lines[-1] += words.lstrip() if self._lines[-1].endswith((" ", "- ")) or not self._lines[-1] else words

    def _break(self, *, apart: bool) -> None:
        if self._lines[-1].strip():
            self._lines.append("")
        else:
            self._lines[-1] = ""
        if apart and len(self._lines) > 1 and self._lines[-2].strip():
            self._lines.append("")

    def text(self) -> str:
        """Lines without trailing blanks, and never two empty ones after each other."""
        joined = "\n".join(line.strip() for line in self._lines)
        return re.sub(r"\n{3,}", "\n\n", joined).strip() + "\n"
