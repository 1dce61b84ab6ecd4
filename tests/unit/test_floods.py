"""When an account waits because a platform asked its chats to."""

from fased.core.messages import Peer, PeerKind
from services.channels.sending import FLOODED_CHATS, LONGEST_FLOOD_S, Floods


def peer(number: int) -> Peer:
    return Peer(PeerKind.DIRECT, str(number))


def flooded(chats: int, wait_s: float = 10) -> Floods:
    floods = Floods()
    for number in range(chats):
        floods.note(peer(number), now=100, wait_s=wait_s + number)
    return floods


def test_single_chats_that_are_to_wait_keep_no_other_waiting() -> None:
    floods = flooded(FLOODED_CHATS - 1)
    floods.note(peer(0), now=100, wait_s=30)
    assert floods.wait_s(100) == 0


def test_several_chats_that_are_to_wait_let_the_account_wait_for_the_last_of_them() -> None:
    assert flooded(FLOODED_CHATS).wait_s(101) == 10 + FLOODED_CHATS - 1 - 1


def test_chats_that_may_go_on_count_no_longer() -> None:
    floods = flooded(FLOODED_CHATS)
    assert floods.wait_s(110.5) == 0
    assert floods.wait_s(101) == 0


def test_a_wait_of_hours_is_that_of_its_chats_and_the_account_is_tried_again() -> None:
    assert flooded(FLOODED_CHATS, wait_s=86_400).wait_s(100) == LONGEST_FLOOD_S
