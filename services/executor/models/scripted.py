"""A provider that answers by rules instead of a model: for demonstrations and tests.

Decides its answers from `FASED_SCRIPTED_MODEL`: the word `echo`, or a JSON file
`{"rules": [{"match": REGEX, "answer": TEXT, "delay_ms": N, "word_delay_ms": N,
"fail": {"status": N, "times": N, "retry_after_s": N}}]}`. The first rule that matches the last
message answers; `{text}` in an answer stands for that message.
"""

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fased.core.context import estimate_tokens
from fased.core.errors import InvalidArgument
from fased.core.model_failures import refused_call
from services.executor.models.port import ModelCall, ModelPart

ECHO = "echo"
SETTING = "FASED_SCRIPTED_MODEL"

_Milliseconds = Annotated[int, Field(ge=0, le=3_600_000)]


class Failing(BaseModel):
    """How the first `times` calls of a rule fail; 0 means all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: int = Field(ge=400, le=599)
    times: int = Field(default=1, ge=0)
    retry_after_s: float | None = Field(default=None, ge=0)


class Rule(BaseModel):
    """What a message that matches is answered with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: re.Pattern[str] = re.compile("")
    answer: str = "You said: {text}"
    delay_ms: _Milliseconds = 0
    word_delay_ms: _Milliseconds = 0
    fail: Failing | None = None


class Script(BaseModel):
    """The rules in order; a message that none matches is echoed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[Rule, ...] = ()


class ScriptedModels:
    """The provider `scripted`; every model name behaves alike."""

    def __init__(self, script: Script, log: Path | None) -> None:
        """`log` gets one JSON line a call, before it is answered; it outlives the process."""
        self._rules = (*script.rules, Rule())
        self._log = log
        self._failed = dict.fromkeys(range(len(self._rules)), 0)

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelPart, None]:
        """The answer word by word; raises ModelFailure where a rule says so."""
        text = call.messages[-1].text
        self._note(call, text)
        at, rule = next(
            (at, rule) for at, rule in enumerate(self._rules) if rule.match.search(text)
        )
        await asyncio.sleep(rule.delay_ms / 1000)
        self._fail(at, rule, call)
        answer = rule.answer.replace("{text}", text)
        for word in re.findall(r"\s*\S+|\s+\Z", answer):
            yield ModelPart(word)
            await asyncio.sleep(rule.word_delay_ms / 1000)
        yield ModelPart(
            input_tokens=sum(estimate_tokens(each.text) for each in call.messages),
            output_tokens=estimate_tokens(answer),
        )

    async def close(self) -> None:
        """Nothing is open."""

    def _fail(self, at: int, rule: Rule, call: ModelCall) -> None:
        failing = rule.fail
        if failing is None or (failing.times and self._failed[at] >= failing.times):
            return
        self._failed[at] += 1
        wait = failing.retry_after_s
        raise refused_call(
            call.choice,
            failing.status,
            "",
            "as its script says",
            None if wait is None else timedelta(seconds=wait),
        )

    def _note(self, call: ModelCall, text: str) -> None:
        if self._log is None:
            return
        line = {
            "run": call.run_id,
            "model": call.choice.ref,
            "text": text,
            "time": datetime.now(UTC).isoformat(),
        }
        file = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, json.dumps(line).encode() + b"\n")
        finally:
            os.close(file)


def read_script(setting: str) -> Script:
    """The script that the setting names; raises InvalidArgument saying what is wrong with it."""
    if setting == ECHO:
        return Script()
    try:
        return Script.model_validate_json(Path(setting).read_bytes())
    except OSError as exc:
        raise _invalid(f"{setting} cannot be read ({exc.strerror})") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise _invalid(f"{setting}: {where}: {first['msg'].lower()}") from exc


def _invalid(problem: str) -> InvalidArgument:
    return InvalidArgument(
        f"{SETTING} is neither the word {ECHO} nor a file of rules: {problem}",
        reason="INVALID_SCRIPT",
        metadata={"field": SETTING},
    )
