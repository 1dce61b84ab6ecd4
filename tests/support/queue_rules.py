"""The calls that the queue's state machines make, over the model alone or beside a database.

Decides which calls are drawn; `apply` decides whom they are made to.
"""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fased.core.runs import LiveState, Outcome
from tests.support.queue_model import HEADS, Queue, answer

KEYS = tuple(f"k{n}" for n in range(40))
LANES = ("a", "b", "c")
WORKER_KINDS = ("complete", "go_on", "park", "release", "reschedule", "checkpoint", "child")
PERSON_KINDS = ("cancel", "wake", "retry")
TICKS = ("recover", "return_due", "wake_expired", "settle")
# One rule with many kinds: hypothesis leaves whole rules out of an example, and leaves and
# preconditions together let few examples come far.
KINDS = (
    *TICKS, *WORKER_KINDS, *PERSON_KINDS, "enqueue", "enqueue", "enqueue", "claim", "claim",
    "claim", "claim", "complete", "go_on", "park", "park", "wake", "child", "heartbeat",
    "heartbeat",
)  # fmt: skip
ENDS = (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.BLOCKED)
Call = tuple[str, dict[str, Any]]

pick = st.integers(0, 10_000)


def chosen(options: list[Any], index: int) -> Any:
    """One of the options; drawn by number, so that a shrunk example keeps its meaning."""
    return options[index % len(options)]


class QueueRules(RuleBasedStateMachine):
    """One call at a time; every lease ever given, dead ones too, may speak again."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Queue()
        self.leases: list[tuple[int, int, int]] = []
        self.made: set[int] = set()

    def apply(self, call: Call) -> Any:
        """Make a call and answer with its result."""
        return answer(getattr(self.model, call[0]), **call[1])

    def note(self, call: Call, result: Any) -> None:
        """Remember the runs and leases that a call made."""
        if call[0] == "enqueue" and not isinstance(result, str):
            self.made.update(result[0])
        if call[0] in ("claim", "go_on") and not isinstance(result, str):
            leases = result if call[0] == "claim" else result[1]
            self.leases += [
                (run_id, epoch, self.model.live[run_id].wake_seq) for run_id, epoch in leases
            ]

    def do(self, name: str, **kwargs: Any) -> None:
        """Make a call and remember what it made."""
        self.note((name, kwargs), self.apply((name, kwargs)))

    def worker_call(self, kind: str, lease: int, n: int) -> Call:
        """A write by whoever holds, or once held, a lease."""
        run_id, epoch, wake_seq = chosen(self.leases[-8:], lease)
        held: dict[str, Any] = {"run_id": run_id, "epoch": epoch}
        match kind:
            case "complete":
                held["outcome"] = chosen(list(ENDS), n)
            case "go_on":
                held |= {"outcome": chosen(list(ENDS), n), "worker": self.worker()}
            case "park":
                held |= {"wake_seq": wake_seq, "wake_in": (None, 1, 2)[n % 3]}
            case "reschedule":
                held["delay"] = 1 + n % 2
            case "checkpoint":
                held |= {"step": f"act/{n % 2}", "value": f'"{n}"'}
            case "child":
                lane = f"child:{run_id}:{n % 2}"
                return "enqueue", {
                    "key": f"{lane}:{epoch}",
                    "lanes": (lane,),
                    "parent": (run_id, epoch),
                }
        return kind, held

    def worker(self) -> str:
        """Who works now; workers come and go."""
        return f"w{self.model.now // 4}"

    def run_call(self, kind: str, n: int) -> Call:
        """A person's word about any run, live or ended."""
        return kind, {"run_id": chosen(sorted(self.made), n)}

    def drawn(self, kind: str, lease: int, n: int) -> Call:
        """The call of a kind. What needs a lease or a run, before there is one, makes one."""
        if kind in WORKER_KINDS and self.leases:
            return self.worker_call(kind, lease, n)
        if kind in PERSON_KINDS and self.made:
            # Half the time about a run that a worker holds, or held.
            if n % 2 and self.leases:
                return kind, {"run_id": chosen(self.leases[-8:], lease)[0]}
            return self.run_call(kind, n // 2)
        if kind in TICKS:
            return kind, {}
        worker = self.worker()
        if kind == "heartbeat":
            return kind, {"worker": chosen([worker, f"w{self.model.now // 4 - 1}"], n)}
        if kind != "enqueue" and self.made:
            return "claim", {"worker": worker, "max_runs": 1 + n % 3}
        lanes = (chosen(list(LANES), n), chosen(list(LANES), n // 3))[: 1 + n // 9 % 2]
        delay = 2 if n % 5 == 0 else 0
        return "enqueue", {"key": chosen(list(KEYS), lease), "lanes": lanes, "delay": delay}

    @rule(kind=st.sampled_from(KINDS), lease=pick, n=pick)
    def somebody_speaks(self, kind: str, lease: int, n: int) -> None:
        if kind in TICKS:
            self.turn_clock(1 + n % 2)
        name, kwargs = self.drawn(kind, lease, n)
        self.do(name, **kwargs)

    def turn_clock(self, ticks: int) -> None:
        """Let time pass."""
        self.model.now += ticks

    @invariant()
    def one_head_a_lane_and_first_in_first_out(self) -> None:
        runs = list(self.model.live.values())
        for lane in {run.lane for run in runs}:
            heads = [run for run in runs if run.lane == lane and run.state in HEADS]
            waiting = [
                run.seq for run in runs if run.lane == lane and run.state is LiveState.WAITING
            ]
            assert len(heads) <= 1
            assert not waiting or (heads and heads[0].seq < min(waiting))

    @invariant()
    def enqueued_is_history_and_live(self) -> None:
        live, ended = set(self.model.live), set(self.model.ended)
        assert not live & ended
        assert live | ended == self.made
