"""Rules and templates from the files that the settings name."""

from pathlib import Path

from mailstream.domain.errors import WrongRules
from mailstream.settings import Settings
from mailstream.templates.catalog import Templates
from streams.triggers import rules as rule_file
from streams.triggers.rules import Rules


def load(settings: Settings) -> Rules | None:
    """The rules, held against the templates; None when no rules are named.

    Raises WrongRules or TemplateError, with one line per mistake.
    """
    if settings.triggers_file is None:
        return None
    if settings.templates_dir is None:
        raise WrongRules("MAILSTREAM_TRIGGERS_FILE is set, but not MAILSTREAM_TEMPLATES_DIR: the rules name templates")
    path = Path(settings.triggers_file)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongRules(f"{path}: cannot be read ({type(error).__name__})") from None
    rules = rule_file.parse(text, path.name)
    rule_file.require_usable(rules, Templates(settings.templates_dir), settings)
    return rules
