"""What a terminal shows while a conversation goes on."""

import io

from cli.chat_screen import CLEAR_LINE, PROMPT, Screen
from fased.api.channels.v1 import conversation_pb2 as pb
from fased.api.types.v1 import message_pb2

ANSWER = message_pb2.MESSAGE_KIND_ANSWER
FAILURE = message_pb2.MESSAGE_KIND_FAILURE


class Terminal(io.StringIO):
    """A stream that says that it is one."""

    def isatty(self) -> bool:
        return True


def partial(text: str, run_id: int = 1) -> pb.ConversationEvent:
    kind = pb.CONVERSATION_EVENT_KIND_PARTIAL
    return pb.ConversationEvent(kind=kind, text=text, run_id=run_id)


def said(
    text: str, run_id: int = 1, kind: message_pb2.MessageKind.ValueType = ANSWER
) -> pb.ConversationEvent:
    return pb.ConversationEvent(
        kind=pb.CONVERSATION_EVENT_KIND_SAID,
        text=text,
        run_id=run_id,
        message_kind=kind,
        agent_id="main",
    )


def posted(message_id: str, text: str) -> pb.ConversationEvent:
    return pb.ConversationEvent(
        kind=pb.CONVERSATION_EVENT_KIND_POSTED,
        message_id=message_id,
        text=text,
        sender=message_pb2.Sender(id="ann"),
    )


def shown(*events: pb.ConversationEvent, stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    screen = Screen(stream, "main")
    for event in events:
        screen.show(event)
    return stream.getvalue()


def test_an_answer_grows_on_its_line_and_is_printed_once() -> None:
    assert shown(partial("He"), partial("Hello"), said("Hello there.")) == "main: Hello there.\n"


def test_an_answer_that_was_begun_anew_is_printed_again_on_a_new_line() -> None:
    assert shown(partial("He"), said("No.")) == "main: He\nmain: No.\n"
    assert shown(partial("He"), partial("No"), said("No.")) == "main: He\nmain: No.\n"


def test_what_is_said_amid_an_answer_has_its_own_line_and_the_answer_is_whole_after_it() -> None:
    text = shown(partial("He"), said("tick", run_id=2), said("Hello", run_id=1))
    assert text == "main: He\nmain: tick\nmain: Hello\n"


def test_a_failure_is_marked() -> None:
    assert shown(said("The model is down.", kind=FAILURE)) == "! main: The model is down.\n"


def test_what_was_typed_here_is_not_printed_and_what_others_wrote_is() -> None:
    stream = io.StringIO()
    screen = Screen(stream, "main")
    screen.own.add("1")
    screen.show(posted("1", "mine"))
    screen.show(posted("2", "theirs"))
    assert stream.getvalue() == "ann: theirs\n"


def test_only_a_terminal_gets_a_prompt_and_it_comes_back_after_an_answer() -> None:
    pipe, terminal = io.StringIO(), Terminal()
    for stream in (pipe, terminal):
        screen = Screen(stream, "main")
        screen.prompt()
        screen.show(said("Hello"))
    assert pipe.getvalue() == "main: Hello\n"
    assert terminal.getvalue() == f"{PROMPT}{CLEAR_LINE}main: Hello\n{PROMPT}"


def test_the_history_is_its_last_lines() -> None:
    stream = io.StringIO()
    Screen(stream, "main").show_history([posted("1", "a\nb"), said("c\nd")], max_lines=3)
    assert stream.getvalue() == "b\nmain: c\nd\n"
    Screen(stream := io.StringIO(), "main").show_history([], max_lines=3)
    assert stream.getvalue() == ""


def test_no_message_can_command_the_terminal() -> None:
    assert "\x1b" not in shown(partial("\x1b[2J"), said("\x1b]0;x\x07"), posted("1", "\x9b1m"))
