"""The queue's laws on the pure model: what the database is compared with must itself be right."""

from hypothesis import settings

from fased.core.queue import CancelResult, WriteResult
from fased.core.runs import LiveState, Outcome
from tests.support.queue_model import Queue, answer
from tests.support.queue_rules import QueueRules

TestQueueModel = QueueRules.TestCase
TestQueueModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def leased(queue: Queue, key: str = "k", lane: str = "a") -> tuple[int, int]:
    queue.enqueue(key, (lane,))
    return queue.claim("one", 1)[0]


def test_a_known_key_answers_with_its_runs_after_their_end() -> None:
    queue = Queue()
    run_id, epoch = leased(queue)
    queue.complete(run_id, epoch, Outcome.SUCCEEDED)

    assert queue.enqueue("k", ("b",)) == ((run_id,), True)


def test_a_lane_runs_one_at_a_time_in_the_order_of_enqueue() -> None:
    queue = Queue()
    (first, second), _ = queue.enqueue("k", ("a", "a"))

    [(run_id, epoch)] = queue.claim("one", 9)
    assert run_id == first
    queue.complete(run_id, epoch, Outcome.SUCCEEDED)

    assert [run_id for run_id, _ in queue.claim("one", 9)] == [second]


def test_a_worker_that_lost_its_run_changes_nothing() -> None:
    queue = Queue()
    run_id, epoch = leased(queue)
    queue.now = 9
    queue.recover()

    before = queue.snapshot()
    for call in (queue.complete(run_id, epoch, Outcome.SUCCEEDED), queue.release(run_id, epoch)):
        assert call is WriteResult.STALE
    assert queue.checkpoint(run_id, epoch, "plan", "1") is None
    assert queue.snapshot() == before


def test_the_fourth_lost_worker_ends_the_run() -> None:
    queue = Queue()
    queue.enqueue("k", ("a",))
    for n in range(4):
        [(run_id, _)] = queue.claim(f"w{n}", 1)
        queue.now += 4
        queue.recover()

    assert queue.ended[run_id][1] is Outcome.FAILED


def test_a_cancelled_parent_takes_its_children_along() -> None:
    queue = Queue()
    parent, epoch = leased(queue)
    queue.enqueue("c", ("x", "y"), parent=(parent, epoch))
    [(held, _)] = queue.claim("one", 1)

    assert queue.cancel(parent) is CancelResult.FLAGGED
    assert answer(queue.enqueue, "d", ("z",), parent=(parent, epoch)) == "CANCELLED"
    assert queue.complete(parent, epoch, Outcome.SUCCEEDED) is WriteResult.CANCELLED
    assert queue.live[held].cancel
    assert list(queue.live) == [held]


def test_a_wake_before_the_park_is_not_lost() -> None:
    queue = Queue()
    run_id, epoch = leased(queue)
    queue.wake(run_id)

    queue.park(run_id, epoch, 0, None)

    assert queue.live[run_id].state is LiveState.READY
