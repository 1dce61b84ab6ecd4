"""ProgressService: passes what runs show on to whoever watches. Keeps nothing."""

from typing import Any

from fased.api.executor.v1 import executor_service_pb2 as pb
from fased.api.executor.v1 import executor_service_pb2_grpc
from fased.bus import topics
from fased.bus.port import Bus, Record
from fased.telemetry import tracing


class ProgressServicer(executor_service_pb2_grpc.ProgressServiceServicer):
    """Progress over gRPC, out on the bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def ReportProgress(
        self, request: pb.ReportProgressRequest, context: Any
    ) -> pb.ReportProgressResponse:
        """Publish progress, each run's in order."""
        await self._bus.publish(
            [
                Record(
                    topics.RUN_PROGRESS,
                    f"{each.namespace}/{each.run_id}",
                    each.SerializeToString(),
                    tracing.inject({}),
                )
                for each in request.progress
            ]
        )
        return pb.ReportProgressResponse()
