"""One JMESPath expression of a rule: conditions and mappings have no language of our own."""

from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError


class Unanswered(Exception):
    """An expression that does not fit the event. The text names the expression, never a value."""


class Expression:
    """A compiled expression. Raises ValueError when the source is not one."""

    def __init__(self, source: object) -> None:
        if not isinstance(source, str):
            raise ValueError("expected a JMESPath expression as text")
        self.source = source
        try:
            self._compiled = jmespath.compile(source)
        except JMESPathError as error:
            raise ValueError(f"not a JMESPath expression: {str(error).splitlines()[0].rstrip(':')}") from None

    def of(self, document: Any) -> Any:
        """What the expression finds; None when there is nothing. Raises Unanswered."""
        try:
            return self._compiled.search(document)
        except (JMESPathError, ArithmeticError, AttributeError, TypeError, ValueError, RecursionError):
            # jmespath itself stumbles with Python's own errors over some values, and its own texts quote values
            raise Unanswered(f"the expression {self.source!r} does not fit the event") from None


def is_true(found: Any) -> bool:
    """Truth as JMESPath has it: 0 is true, what is empty is not."""
    return found is not None and found is not False and found != "" and found != [] and found != {}
