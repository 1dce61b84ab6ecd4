"""What a terminal shows of a conversation. Decides which events are printed, and how an answer
grows on the screen; it never reads.
"""

from collections.abc import Sequence
from typing import TextIO

from cli.output import clean
from fased.api.channels.v1 import conversation_pb2
from fased.api.types.v1 import message_pb2

PROMPT = "> "
CLEAR_LINE = "\r\x1b[K"

POSTED = conversation_pb2.CONVERSATION_EVENT_KIND_POSTED
SAID = conversation_pb2.CONVERSATION_EVENT_KIND_SAID
PARTIAL = conversation_pb2.CONVERSATION_EVENT_KIND_PARTIAL

Event = conversation_pb2.ConversationEvent


class Screen:
    """A stream that a conversation is printed on; only a terminal gets prompts.

    `own` are the ids of the posts that were typed here: their text is on the screen already.
    """

    def __init__(self, stream: TextIO, agent_id: str) -> None:
        self.own: set[str] = set()
        self._stream = stream
        self._agent_id = agent_id
        self._is_terminal = stream.isatty()
        self._is_prompting = False
        # The answer that grows on the last line, and its run; 0 when none does.
        self._grown, self._run_id = "", 0

    def prompt(self) -> None:
        """Ask for a line."""
        if self._is_terminal and not self._run_id:
            self._write("" if self._is_prompting else PROMPT)
            self._is_prompting = True

    def leave(self) -> None:
        """End the last line, for whatever the terminal shows next."""
        if self._is_prompting or self._run_id:
            self._write("\n")

    def show_history(self, events: Sequence[Event], max_lines: int) -> None:
        """The last lines of what was said."""
        texts = [self._line(event) for event in events if event.kind in (POSTED, SAID)]
        for line in "\n".join(texts).split("\n")[-max_lines:] if texts else []:
            self._write(f"{line}\n")

    def show(self, event: Event) -> None:
        """Print an event as far as it is not on the screen."""
        if event.kind == PARTIAL:
            self._grow(event)
        elif event.kind == SAID:
            self._finish(event)
        elif event.kind == POSTED and event.message_id not in self.own:
            self._print_block(self._line(event))

    def _grow(self, event: Event) -> None:
        text = clean(event.text)
        if event.run_id == self._run_id and text.startswith(self._grown):
            self._write(text[len(self._grown) :])
        else:
            self._break_line()
            self._write(f"{self._agent_id}: {text}")
        self._grown, self._run_id = text, event.run_id

    def _finish(self, event: Event) -> None:
        text = clean(event.text)
        if event.run_id and event.run_id == self._run_id and text.startswith(self._grown):
            self._write(text[len(self._grown) :] + "\n")
            self._grown, self._run_id = "", 0
            self.prompt()
        else:
            self._print_block(self._line(event))

    def _print_block(self, text: str) -> None:
        self._break_line()
        self._write(f"{text}\n")
        self.prompt()

    def _break_line(self) -> None:
        """Go to the start of an empty line, from a prompt or from an answer that grows."""
        if self._is_prompting:
            self._write(CLEAR_LINE)
        elif self._run_id:
            self._write("\n")
        self._is_prompting = False
        self._grown, self._run_id = "", 0

    def _line(self, event: Event) -> str:
        if event.kind == POSTED:
            return f"{event.sender.display_name or event.sender.id or 'you'}: {clean(event.text)}"
        mark = "! " if event.message_kind == message_pb2.MESSAGE_KIND_FAILURE else ""
        return f"{mark}{event.agent_id or self._agent_id}: {clean(event.text)}"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
