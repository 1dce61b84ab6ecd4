"""Chat commands over the real bus, gRPC and PostgreSQL: what they change and what is said."""

from collections.abc import AsyncIterator

import pytest

from fased.api.router.v1 import binding_pb2
from fased.api.router.v1 import router_service_pb2 as pb
from fased.api.types.v1 import message_pb2
from fased.core.messages import PeerKind
from tests.support.router import Router, Writer, routing, writer

DEFAULT = "namespaces/default"


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[Router]:
    async with routing(database_url) as up:
        await up.add_agent("coding", display_name="Code Monkey", model="openai/coder")
        yield up


@pytest.fixture
def ada(router: Router) -> Writer:
    return writer(router, "123")


async def test_a_reply_goes_back_to_the_chat_as_a_notice(router: Router, ada: Writer) -> None:
    event = ada.event("/whoami")
    reply = await router.reply_to(event)
    assert reply.text == "You are ada (Ada) on telegram account default."
    assert reply.kind == message_pb2.MESSAGE_KIND_NOTICE
    assert (reply.target.peer.id, reply.target.reply_to_id) == ("123", event.native_id)
    assert reply.session_key == "agent:main:main"


async def test_help_lists_what_is_served_and_nothing_else(ada: Writer) -> None:
    said = await ada.command("/help")
    for served in ("/agent", "/session", "/task new", "/stop", "/status"):
        assert served in said
    for later in ("/approve", "/usage", "/task edit"):
        assert later not in said


async def test_a_command_of_a_later_version_says_so(ada: Writer) -> None:
    assert await ada.command("/usage") == "/usage is not available in this version. Run /help."
    assert "not available" in await ada.command("/task force Tick")


async def test_a_malformed_command_is_answered_with_its_error(router: Router, ada: Writer) -> None:
    said = await ada.command("/agent swich coding")
    assert said == "unknown word 'swich' after /agent: write one of switch"
    said = await ada.command("/task new every 5s --bogus 1 Tick: tick")
    assert "unknown flag --bogus" in said
    assert await router.rows("SELECT 1 FROM bus.record WHERE topic = 'fased.dead-letter.v1'") == []


@pytest.mark.parametrize("target", ["coding", "Coding", "code monkey", '"Code Monkey"'])
async def test_a_switch_by_id_or_name_binds_this_chat(ada: Writer, target: str) -> None:
    said = await ada.command(f"/agent switch {target}")
    assert said == (
        "Agent switched to Code Monkey for telegram · direct:123. "
        "New messages in this chat will use that Agent."
    )
    assert (await ada.write()).body.agent_id == "coding"
    assert (await writer(ada.router, "124").write()).body.agent_id == "main"
    assert (await ada.command("/agent")).startswith("Agent Code Monkey answers here. ")


async def test_switching_there_and_back_leaves_one_binding(router: Router, ada: Writer) -> None:
    for target in ("coding", "main", "main", "coding"):
        await ada.command(f"/agent switch {target}")
    listed = await router.routes.ListBindings(pb.ListBindingsRequest(parent=DEFAULT))
    [binding] = listed.bindings
    assert (binding.agent_id, binding.position, listed.version) == ("coding", -1, 3)


async def test_chats_with_the_same_id_elsewhere_are_not_switched(ada: Writer) -> None:
    others = [
        writer(ada.router, "123", channel="discord"),
        writer(ada.router, "123", account_id="work"),
        writer(ada.router, "123", kind=PeerKind.GROUP),
    ]
    for other in others:
        await other.command("/agent switch coding")
    await ada.command("/agent switch main")
    assert [(await other.write()).body.agent_id for other in others] == ["coding"] * 3
    assert (await ada.write()).body.agent_id == "main"


@pytest.mark.parametrize("target", ["nobody", "???"])
async def test_an_unknown_agent_is_refused(ada: Writer, target: str) -> None:
    said = await ada.command(f"/agent switch {target}")
    assert said == f'Unknown Agent "{target}". Run /agent list.'
    assert "- coding (Code Monkey): openai/coder" in await ada.command("/agent list")
    assert (await ada.write()).body.agent_id == "main"


async def test_a_switch_wins_over_the_agent_picked_on_the_page(router: Router) -> None:
    page = writer(router, "page", channel="webchat", attached=("main", ""))
    await page.command("/agent switch coding")
    assert (await page.write()).body.agent_id == "coding"


async def test_a_switch_wins_over_the_files_rules_for_wider_chats(
    router: Router, ada: Writer
) -> None:
    peer = message_pb2.Peer(kind=message_pb2.PEER_KIND_DIRECT, id="123")
    match = binding_pb2.Match(channel="telegram", account_id="*", peer=peer)
    await apply_file(router, match)
    await ada.command("/agent switch coding")
    assert (await ada.write()).body.agent_id == "coding"


async def test_a_chat_that_a_file_binds_is_switched_in_the_file(
    router: Router, ada: Writer
) -> None:
    peer = message_pb2.Peer(kind=message_pb2.PEER_KIND_DIRECT, id="123")
    await apply_file(router, binding_pb2.Match(channel="telegram", peer=peer))
    said = await ada.command("/agent switch coding")
    assert said == (
        "this chat's binding bindings[0] is defined in /home/x/fased.json; edit it there"
    )
    assert (await ada.write()).body.agent_id == "main"


async def apply_file(router: Router, match: binding_pb2.Match) -> None:
    """Let a file send these messages to main."""
    binding = binding_pb2.Binding(
        name=f"{DEFAULT}/bindings/bindings[0]", agent_id="main", match=match
    )
    await router.routes.ApplyRouting(
        pb.ApplyRoutingRequest(
            parent=DEFAULT, managed_by="file:/home/x/fased.json", bindings=[binding]
        )
    )


async def test_a_new_session_is_used_until_another_is_chosen(ada: Writer) -> None:
    main = await ada.write()
    said = await ada.command("/session new Road trip!")
    assert said == 'Created session "Road trip!". New messages in this chat will use it.'
    trip = await ada.write()
    assert trip.body.session_key == "agent:main:main:chat:road-trip"
    assert trip.body.session_id != main.body.session_id
    assert await ada.command("/session") == (
        'This chat is in session "Road trip!" (agent:main:main:chat:road-trip).'
    )
    said = await ada.command("/session switch main")
    assert said == "Switched to the main session. New messages in this chat will use it."
    assert (await ada.write()).body.session_id == main.body.session_id
    for name in ("road trip!", "ROAD-TRIP"):
        said = await ada.command(f"/session switch {name}")
        assert said == 'Switched to session "Road trip!". New messages in this chat will use it.'
    assert (await ada.write()).body.session_id == trip.body.session_id


async def test_sessions_of_equal_names_are_told_apart_by_their_slugs(ada: Writer) -> None:
    await ada.command("/session new Plans")
    await ada.command("/session new Plans")
    assert await ada.command("/session list") == (
        "Sessions:\n"
        "- the main session (main)\n"
        '- session "Plans" (plans)\n'
        '- session "Plans" (plans-2, in use)'
    )
    await ada.command("/session switch plans")
    assert (await ada.write()).body.session_key.endswith(":chat:plans")
    await ada.command("/session switch plans-2")
    assert (await ada.write()).body.session_key.endswith(":chat:plans-2")
    assert await ada.command("/session switch x") == 'Unknown session "x". Run /session list.'


async def test_a_closed_session_is_left_and_its_slug_stays_taken(ada: Writer) -> None:
    await ada.command("/session new Plans")
    said = await ada.command("/session close")
    assert said == 'Closed session "Plans". New messages here use the main session.'
    assert (await ada.write()).body.session_key == "agent:main:main"
    assert "Plans" not in await ada.command("/session list")
    assert await ada.command("/session switch plans") == (
        'Unknown session "plans". Run /session list.'
    )
    await ada.command("/session new Plans")
    assert (await ada.write()).body.session_key.endswith(":chat:plans-2")
    await ada.command("/session switch main")
    assert "stays open" in await ada.command("/session close")


async def test_a_page_on_a_named_session_goes_on_to_others_of_the_same_agent(
    router: Router,
) -> None:
    request = pb.CreateSessionRequest(parent=DEFAULT, agent_id="main", title="Plans")
    plans = (await router.sessions.CreateSession(request)).session
    page = writer(router, "page", channel="webchat", attached=("main", plans.session_key))
    assert (await page.write()).body.session_key == plans.session_key
    await page.command("/session new Trip")
    assert (await page.write()).body.session_key == "agent:main:main:chat:trip"
    assert "(plans)" in await page.command("/session list")
    await page.command("/session switch main")
    assert (await page.write()).body.session_key == "agent:main:main"
    await page.command("/session switch plans")
    assert (await page.write()).body.session_key == plans.session_key
    await page.command("/session close")
    assert (await page.write()).body.session_key == "agent:main:main"


async def test_a_session_that_was_closed_elsewhere_is_used_no_more(router: Router) -> None:
    ada, other = writer(router, "123"), writer(router, "124")  # both in the Agent's main session
    await ada.command("/session new Plans")
    assert (await other.write()).body.session_key.endswith(":chat:plans")
    page = writer(router, "p", channel="webchat", attached=("main", "agent:main:main:chat:plans"))
    await page.command("/session close")
    assert (await ada.write()).body.session_key == "agent:main:main"


@pytest.mark.parametrize("text", ["/new", "/reset", "/NEW:", "/new@fased_bot"])
async def test_a_fresh_start_changes_the_session_id_and_not_the_key(ada: Writer, text: str) -> None:
    before = await ada.write()
    said = await ada.command(text)
    assert said == "Started afresh: earlier messages of the main session are no longer read."
    after = await ada.write()
    assert after.body.session_key == before.body.session_key
    assert after.body.session_id != before.body.session_id


async def test_a_model_belongs_to_the_session_that_it_was_set_in(ada: Writer) -> None:
    said = await ada.command("/model openai/big")
    assert said == ("This session now uses openai/big. The Agent's own model stays scripted/echo.")
    assert (await ada.write()).body.model == "openai/big"
    assert await ada.command("/model") == (
        "This session uses openai/big. Agent main uses scripted/echo."
    )
    await ada.command("/session new Other")
    assert (await ada.write()).body.model == ""
    said = await ada.command("/new openai/small")
    assert said.endswith("It uses openai/small.")
    assert (await ada.write()).body.model == "openai/small"
    assert "- openai/coder" in await ada.command("/model list")


async def test_status_shows_agent_session_and_runs(router: Router, ada: Writer) -> None:
    run = await ada.write()
    said = (await ada.command("/status")).splitlines()
    assert said[0] == "Agent main, session agent:main:main"
    assert said[1] == "- queue: 1 queued, 0 running, 0 workers"
    assert f"**#{run.run_id}** queued" in said[3]


async def test_stop_ends_what_waits_in_this_session_only(router: Router, ada: Writer) -> None:
    other = await writer(router, "g", kind=PeerKind.GROUP).write()
    for _ in range(2):
        await ada.write()
    assert await ada.command("/stop") == "Stopped 2 runs."
    assert await ada.command("/stop") == "Nothing is running here."
    states = {run.run_id: run.state for run in await router.runs()}
    assert states.pop(other.run_id) == "queued"
    assert set(states.values()) == {"cancelled"}


async def test_a_slash_word_that_is_no_command_is_a_message(ada: Writer) -> None:
    assert (await ada.write("/etc/hosts is empty")).body.inputs[0].text == "/etc/hosts is empty"
