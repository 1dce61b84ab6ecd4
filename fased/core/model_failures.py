"""Failed model calls: what each means for the next try, and the sentence a person reads.

Decides reasons and words; not whether there is a next try (`runs.py`). No sentence holds a
credential or more than a line of a provider's own words.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta

from fased.core.errors import FasedError
from fased.core.models import ModelChoice
from fased.core.runs import FailureClass

MAX_DETAIL_CHARS = 200

_KEY_SHAPES = re.compile(r"\b(?:sk|pk|rk|key)-[A-Za-z0-9*_.-]{6,}|\bBearer\s+\S+")
_OVERLOADED = frozenset({503, 529})
_TIMEOUTS = frozenset({408, 504})
_LONGEST_WAIT_S = 86_400.0


class ModelFailure(FasedError):
    """A model call that failed. `failure` says whether to try again, `retry_after` when the
    provider asked to.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        failure: FailureClass,
        retry_after: timedelta | None = None,
        setup_target: str = "",
    ) -> None:
        super().__init__(message, reason=reason, metadata={"setup_target": setup_target})
        self.failure = failure
        self.retry_after = retry_after
        self.setup_target = setup_target


def classify_status(status: int, code: str) -> FailureClass:
    """What an HTTP status (with the provider's own error code) says about the next try."""
    if status == 429:
        # Out of money is said with the same status as too fast; waiting does not mend it.
        is_quota = code in ("insufficient_quota", "billing_hard_limit_reached")
        return FailureClass.PERMANENT if is_quota else FailureClass.RATE_LIMIT
    if status in _TIMEOUTS:
        return FailureClass.TIMEOUT
    if status in _OVERLOADED:
        return FailureClass.OVERLOADED
    return FailureClass.SERVER_ERROR if status >= 500 else FailureClass.PERMANENT


def refused_call(
    choice: ModelChoice, status: int, code: str, detail: str, retry_after: timedelta | None
) -> ModelFailure:
    """The failure for an answer that is an HTTP error: what happened and what to do about it.

    `detail` is the provider's own sentence, already trimmed.
    """
    failure = classify_status(status, code)
    reason, sentence, target = _refusal(choice, status, failure, detail)
    return ModelFailure(
        sentence, reason=reason, failure=failure, retry_after=retry_after, setup_target=target
    )


def unreachable(choice: ModelChoice, detail: str) -> ModelFailure:
    """The failure for a provider that could not be reached, or that hung up midway."""
    target = choice.provider.url_setup
    check = f" Check {target}." if target else ""
    return ModelFailure(
        f"{choice.provider.id} at {choice.provider.base_url} cannot be reached ({detail}).{check}",
        reason="MODEL_UNREACHABLE",
        failure=FailureClass.NETWORK,
        setup_target=target,
    )


def unread_credential(message: str) -> ModelFailure:
    """The failure for a credential that cannot be read now; `message` is not yet a sentence."""
    return ModelFailure(
        f"{message[:1].upper()}{message[1:]}.",
        reason="SECRET_STORE_UNAVAILABLE",
        failure=FailureClass.NETWORK,
    )


def too_slow(choice: ModelChoice, timeout_s: float) -> ModelFailure:
    """The failure for a provider that was silent for too long."""
    return ModelFailure(
        f"Model {choice.ref} sent nothing for {timeout_s:g} seconds.",
        reason="MODEL_TIMEOUT",
        failure=FailureClass.TIMEOUT,
    )


def unusable_answer(choice: ModelChoice, what: str) -> ModelFailure:
    """The failure for an answer that is none: empty, cut off, malformed."""
    return ModelFailure(
        f"Model {choice.ref} {what}.",
        reason="MODEL_ANSWER_UNUSABLE",
        failure=FailureClass.SERVER_ERROR,
    )


def trimmed_detail(detail: str, secrets: Sequence[str]) -> str:
    """A provider's own words, fit to be shown: one line, short, without credentials."""
    line = " ".join(detail.split())
    for secret in secrets:
        if secret:
            line = line.replace(secret, "[secret]")
    line = _KEY_SHAPES.sub("[secret]", line)
    return line if len(line) <= MAX_DETAIL_CHARS else f"{line[:MAX_DETAIL_CHARS]}…"


def _refusal(
    choice: ModelChoice, status: int, failure: FailureClass, detail: str
) -> tuple[str, str, str]:
    provider, ref = choice.provider, choice.ref
    said = f": {detail}" if detail else ""
    if status in (401, 403):
        # The provider's own words may repeat the key, so they are left out.
        what = provider.key_setup or "its credential"
        return (
            "MODEL_CREDENTIAL_REFUSED",
            f"{provider.id} refused the credential ({status}). Check {what}.",
            provider.key_setup,
        )
    if status == 404:
        return (
            "MODEL_NOT_FOUND",
            f"{provider.id} has no model {choice.name} at {provider.base_url}. Set another model.",
            "model",
        )
    match failure:
        case FailureClass.PERMANENT if status == 429:
            return (
                "MODEL_QUOTA_EXHAUSTED",
                f"The quota of {provider.id} is used up. Check its plan and billing.",
                provider.key_setup,
            )
        case FailureClass.PERMANENT:
            return "MODEL_REFUSED", f"Model {ref} refused the request ({status}){said}", ""
        case FailureClass.RATE_LIMIT:
            return "MODEL_RATE_LIMITED", f"{provider.id} limits its rate ({status}){said}", ""
        case FailureClass.OVERLOADED:
            return "MODEL_OVERLOADED", f"{provider.id} is overloaded ({status}).", ""
        case _:
            return "MODEL_SERVER_ERROR", f"{provider.id} failed ({status}){said}", ""


def asked_wait(headers: Mapping[str, str]) -> timedelta | None:
    """How long a provider asks to wait (`retry-after-ms`, `retry-after` in seconds), a day at most.

    None when it asks nothing that is a number: a date would be told by its clock, not ours.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            wait_s = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if 0 <= wait_s < float("inf"):
            return timedelta(seconds=min(wait_s, _LONGEST_WAIT_S))
    return None
