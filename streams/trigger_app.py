"""Domain events of other services in, ``email.requested`` out: a consumer group of its own beside the Faust app.

Not a second Faust app, though two run well in one process (ADR: triggers). These topics are not ours: one whose read
right is taken away ends Faust's fetcher, and with it the worker and all mail, for ever, as the restart meets it again.
A transactional producer or a compacted topic leaves holes in the offsets, which under Faust must be told from records
that it lost. librdkafka reports the one topic and reads on, loses nothing at a rebalance, and reads committed records.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from mode import Service

from mailstream.clock import Clock
from mailstream.errors import MailstreamError
from mailstream.follow_file import follow_file
from mailstream.log.publish import Publisher
from mailstream.settings import Settings
from mailstream.templates import Templates
from mailstream.topics import GROUP_TRIGGERS
from streams import trigger_files, trigger_metrics
from streams.core.rules import Rules
from streams.group_reader import GroupReader
from streams.trigger_answers import Answers

log = structlog.get_logger(__name__)


class Triggers(Service):  # type: ignore[misc]
    """Reads the topics that the rules name, as long as it runs. Hand it to the worker beside the app."""

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        rules: Rules,
        templates: Templates,
        clock: Clock,
        failed: Callable[[BaseException], None],
        **kwargs: Any,
    ) -> None:
        """``failed`` is called on the loop when nothing more will be read."""
        super().__init__(**kwargs)
        self.rules_mistake: str | None = None  #: why changed rules or templates were not taken
        self._settings, self._clock, self._failed = settings, clock, failed
        self._answers = Answers(settings, publisher, rules, templates.folder, clock)
        self._reader: GroupReader | None = None

    @property
    def unreadable(self) -> dict[str, str]:
        """Topics of the rules that cannot be read now, and why."""
        return self._reader.unreadable if self._reader else {}

    @property
    def is_waiting(self) -> bool:
        """Whether events are read that cannot be settled now: our topics take no records, or no registry answers."""
        return self._answers.is_waiting

    async def on_start(self) -> None:
        """Start to read."""
        if self._settings.triggers_file:
            self.add_future(self._reload_on_change())
        self._reader = GroupReader(
            self._settings,
            self._clock,
            group=GROUP_TRIGGERS,
            topics=lambda: self._answers.topics,
            settle=self._answers.settle,
            start_of=self._answers.start_of,
            failed=self._failed,
        )

    async def on_stop(self) -> None:
        """Finish the batch in work, commit it and leave the group."""
        self._answers.is_ending = True
        if self._reader:
            await self._reader.close()
        await self._answers.close()

    async def _reload_on_change(self) -> None:
        """Take changed rules and templates without a restart; what cannot be used is reported, the old ones stay."""
        files = [Path(name) for name in (self._settings.triggers_file, self._settings.templates_dir) if name]
        await follow_file(files, self._loaded, self._use, what="rules and templates")

    def _loaded(self) -> tuple[Rules, Templates] | None:
        try:
            return trigger_files.load(self._settings)
        except MailstreamError as error:
            self._note_rules(str(error))
            raise

    async def _use(self, loaded: tuple[Rules, Templates] | None) -> None:
        if loaded is not None:
            self._answers.use(loaded[0])
            await self._answers.reload_templates()
            self._note_rules(None)
            log.info("rules and templates reloaded", rules=len(loaded[0].rules))

    def _note_rules(self, mistake: str | None) -> None:
        self.rules_mistake = mistake
        trigger_metrics.RULES_UNUSABLE.set(0 if mistake is None else 1)
