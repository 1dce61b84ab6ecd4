"""What runs show while they go on: started, and the answer so far, for chats that can show it.

Decides which chats those are and how often they are told; a report that is lost is not repeated.
"""

import asyncio
from typing import TYPE_CHECKING

import structlog

from fased.api.executor.v1 import executor_service_pb2 as pb
from fased.api.types.v1 import message_pb2
from fased.core.errors import FasedError
from fased.core.queue import LeasedRun
from fased.core.transcripts import storable
from fased.wire.messages import target_to_pb

if TYPE_CHECKING:
    from fased.api.executor.v1.executor_service_pb2_grpc import ProgressServiceAsyncStub

STREAMING_CHANNELS = frozenset({"webchat"})
# The bus carries partial text no oftener (design §5).
EVERY_S = 0.25
REPORT_TIMEOUT_S = 5.0

logger = structlog.get_logger()


class Progress:
    """The reports of one worker's runs, together in one call each quarter of a second."""

    def __init__(self, server: "ProgressServiceAsyncStub") -> None:
        self._server = server
        self._started: dict[int, LeasedRun] = {}
        self._partial: dict[int, tuple[LeasedRun, str]] = {}
        self._some = asyncio.Event()
        self._reported = 0

    def started(self, run: LeasedRun) -> None:
        """Say that a worker took the run up."""
        if _is_shown(run):
            self._started[run.run_id] = run
            self._some.set()

    def partial(self, run: LeasedRun, text: str) -> None:
        """Show the answer so far; only the latest is told."""
        if _is_shown(run):
            self._partial[run.run_id] = (run, text)
            self._some.set()

    def ended(self, run: LeasedRun) -> None:
        """Show nothing more of a run."""
        self._started.pop(run.run_id, None)
        self._partial.pop(run.run_id, None)

    async def report(self) -> None:
        """Tell what there is to tell, until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            request = pb.ReportProgressRequest(progress=self._taken())
            if not request.progress:
                continue
            try:
                await self._server.ReportProgress(request, timeout=REPORT_TIMEOUT_S)
            except FasedError as exc:
                logger.debug("progress_lost", reason=exc.reason)
            await asyncio.sleep(EVERY_S)

    def _taken(self) -> list[message_pb2.RunProgress]:
        started, self._started = self._started, {}
        partial, self._partial = self._partial, {}
        return [
            *(self._shown(run, message_pb2.PROGRESS_KIND_STARTED) for run in started.values()),
            *(
                self._shown(run, message_pb2.PROGRESS_KIND_PARTIAL, storable(text))
                for run, text in partial.values()
            ),
        ]

    def _shown(
        self, run: LeasedRun, kind: message_pb2.ProgressKind.ValueType, text: str = ""
    ) -> message_pb2.RunProgress:
        self._reported += 1
        return message_pb2.RunProgress(
            namespace=run.namespace,
            run_id=run.run_id,
            kind=kind,
            text=text,
            target=target_to_pb(run.body.target),
            event_id=run.body.inputs[0].event_id if run.body.inputs else "",
            # A later lease of the run, on another worker too, goes on from higher numbers.
            ordinal=(run.epoch << 32) + self._reported,
        )


def _is_shown(run: LeasedRun) -> bool:
    target = run.body.target
    return target is not None and target.channel in STREAMING_CHANNELS
