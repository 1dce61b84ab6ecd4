"""What a check says about a setup: a machine reason, a sentence, the place to mend.

Decides the shape only. A finding never stops anything; what must stop raises an error.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is odd. `reason` is UPPER_SNAKE, `message` one sentence for a person.

    `setup_target` names where to mend it: a path in the configuration (`bindings[3].match.peer`),
    a command or an environment variable; `""` where there is no one place.
    """

    reason: str
    message: str
    setup_target: str = ""
