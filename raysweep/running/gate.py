"""Where a trial of several workers waits, after each epoch, for what the scheduler says of it.

Tune listens to the trial's driver alone, and the driver waits for its workers. So rank 0 asks here,
and the driver, which asks Tune, lets it pass. One actor serves all trials of a sweep.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

Metrics = Mapping[str, Any]


class Turnstile:
    """An async Ray actor; a trial that is stopped never passes."""

    def __init__(self) -> None:
        self._asked: dict[str, asyncio.Queue[Metrics | None]] = defaultdict(asyncio.Queue)
        self._passed: dict[str, asyncio.Event] = {}

    async def open(self, trial_id: str) -> None:
        """The driver, before its workers start. A driver that died may still stand in line: what
        is asked from now on goes to this one."""
        self._asked[trial_id] = asyncio.Queue()

    async def ask(self, trial_id: str, metrics: Metrics) -> None:
        """Rank 0, with what it measured after an epoch; returns when it may go on."""
        passed = self._passed[trial_id] = asyncio.Event()
        await self._asked[trial_id].put(metrics)
        await passed.wait()

    async def asked(self, trial_id: str) -> Metrics | None:
        """The driver: what rank 0 asks next; None once the trial's workers have ended."""
        return await self._asked[trial_id].get()

    async def let_pass(self, trial_id: str) -> None:
        """The driver: the scheduler lets the trial go on."""
        self._passed[trial_id].set()

    async def close(self, trial_id: str) -> None:
        """The driver: nobody will ask any more."""
        await self._asked[trial_id].put(None)
