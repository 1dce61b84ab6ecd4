"""The gateway's HTTP door: who may come in, what is wrong with a request, and what passes."""

import json
import uuid

import httpx2
from pydantic import SecretStr

from fased.api.policy.v1 import policy_service_pb2
from fased.api.types.v1 import access_pb2
from services.gateway.settings import Settings
from tests.support.gateway import open_gateway_on


def reason_of(answer: httpx2.Response) -> str:
    """The machine reason of an error answer, which has the one shape that all have."""
    error = answer.json()["error"]
    assert set(error) == {"reason", "message", "metadata"}
    assert "Traceback" not in answer.text
    return str(error["reason"])


async def test_without_a_token_nothing_is_shown(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway, gateway.anonymous() as nobody:
        for path in ("/api/v1/me", gateway.api("/agents"), gateway.api("/runs/1")):
            answer = await nobody.get(path)
            assert (answer.status_code, reason_of(answer)) == (401, "TOKEN_MISSING")
            assert answer.headers["www-authenticate"] == "Bearer"
        for wrong in ("Bearer nope", "Basic abc", "Bearer"):
            answer = await nobody.get("/api/v1/me", headers={"Authorization": wrong})
            assert answer.status_code == 401


async def test_a_token_of_another_namespace_is_refused(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway:
        theirs = await gateway.new_token("eve", namespace="other")
        headers = {"Authorization": f"Bearer {theirs}"}
        answer = await gateway.http.get(gateway.api("/agents"), headers=headers)
        assert (answer.status_code, reason_of(answer)) == (403, "NAMESPACE_DENIED")
        conversation = await gateway.open()
        for path in (f"{conversation}/events", f"{conversation}/stream"):
            answer = await gateway.http.get(path, headers=headers)
            assert (answer.status_code, reason_of(answer)) == (403, "NAMESPACE_DENIED")


async def test_a_viewer_reads_and_may_not_write(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway:
        secret = await gateway.new_token("vic", access_pb2.ROLE_VIEWER)
        conversation = await gateway.open()
        headers = {"Authorization": f"Bearer {secret}"}
        assert (await gateway.http.get(gateway.api("/agents"), headers=headers)).is_success
        answer = await gateway.http.post(
            f"{conversation}/messages", json={"text": "hi", "messageId": "a"}, headers=headers
        )
        assert (answer.status_code, reason_of(answer)) == (403, "ROLE_TOO_LOW")


async def test_a_revoked_token_is_refused_at_once(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway:
        assert (await gateway.http.get("/api/v1/me")).json()["subject"] == "default/ada"
        name = "namespaces/default/tokens/ada"
        await gateway.tokens.RevokeToken(policy_service_pb2.RevokeTokenRequest(name=name))
        answer = await gateway.http.get("/api/v1/me")
        assert (answer.status_code, reason_of(answer)) == (401, "TOKEN_INVALID")


async def test_a_token_in_an_address_is_refused(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway, gateway.anonymous() as nobody:
        for parameter in ("token", "access_token"):
            answer = await nobody.get(f"/api/v1/me?{parameter}={gateway.token}")
            assert (answer.status_code, reason_of(answer)) == (400, "TOKEN_IN_QUERY")


async def test_signing_in_sets_a_cookie_that_no_script_reads(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway, gateway.anonymous() as browser:
        answer = await browser.post("/api/v1/login", json={"token": "wrong"})
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        answer = await browser.post("/api/v1/login", json={"token": gateway.token})
        assert answer.json()["subject"] == "default/ada"
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert (await browser.get("/api/v1/me")).json()["role"] == "operator"
        await browser.post("/api/v1/logout")
        assert (await browser.get("/api/v1/me")).status_code == 401


async def test_a_name_that_is_not_ours_is_refused(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway:
        for host in ("evil.example", "127.0.0.1.evil.example:1", "localhost.evil", "[::1"):
            for path in ("/", "/api/v1/me"):
                answer = await gateway.http.get(path, headers={"Host": host})
                assert (answer.status_code, reason_of(answer)) == (421, "HOST_REFUSED"), host
        assert (await gateway.http.get("/healthz", headers={"Host": "10.0.0.7"})).is_success


async def test_loopback_and_configured_names_are_ours(database_url: str) -> None:
    async with open_gateway_on(database_url, http_names="chat.example, b.example") as gateway:
        for host in ("localhost:5", "127.0.0.1", "[::1]:80", "Chat.Example:443"):
            answer = await gateway.http.get("/api/v1/me", headers={"Host": host})
            assert answer.is_success, host


async def test_a_page_of_another_site_may_not_write(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway:
        own = gateway.url
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
            answer = await gateway.http.post(
                gateway.api("/conversations"), json={}, headers={"Origin": origin}
            )
            assert (answer.status_code, reason_of(answer)) == (403, "ORIGIN_REFUSED")
        answer = await gateway.http.post(
            gateway.api("/conversations"), json={}, headers={"Origin": own}
        )
        assert answer.is_success


async def test_every_answer_tells_the_browser_what_to_refuse(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway, gateway.anonymous() as nobody:
        for path in ("/", "/static/chat.js", "/api/v1/me", "/nowhere"):
            headers = (await nobody.get(path)).headers
            assert headers["content-security-policy"].startswith("default-src 'self';")
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert "server" not in headers


async def test_what_is_not_there_is_said_in_json(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway:
        answer = await gateway.http.get("/api/v1/nowhere")
        assert (answer.status_code, reason_of(answer)) == (404, "NOT_FOUND")
        answer = await gateway.http.delete("/api/v1/me")
        assert (answer.status_code, reason_of(answer)) == (405, "METHOD_NOT_ALLOWED")
        missing = gateway.api(f"/conversations/{uuid.uuid4()}/events")
        answer = await gateway.http.get(missing)
        assert (answer.status_code, reason_of(answer)) == (404, "CONVERSATION_MISSING")
        for path in ("events", "stream"):
            answer = await gateway.http.get(gateway.api(f"/conversations/nope/{path}"))
            assert answer.status_code == 404
        answer = await gateway.http.get("/api/v1/namespaces/NOT_ONE/agents")
        assert (answer.status_code, reason_of(answer)) == (400, "INVALID_NAMESPACE")


MALFORMED = [
    (b"{", "INVALID_JSON", "body"),
    (b"\xff\xfe", "INVALID_JSON", "body"),
    (b"[" * 100_000, "INVALID_JSON", "body"),
    (b"[]", "INVALID_BODY", "body"),
    (b"{}", "INVALID_BODY", "text"),
    (b'{"text": 5, "messageId": "a"}', "INVALID_BODY", "text"),
    (b'{"text": "a", "messageId": "a", "extra": 1}', "INVALID_BODY", "extra"),
    (b'{"text": "a\\u0000b", "messageId": "a"}', "INVALID_BODY", "text"),
    (b'{"text": "\\ud800", "messageId": "a"}', "INVALID_BODY", "text"),
    (b'{"text": "", "messageId": "a"}', "INVALID_TEXT", "text"),
    (b'{"text": "a"}', "INVALID_MESSAGE_ID", "messageId"),
    (b'{"text": "a", "messageId": "a", "replyToId": "b"}', "REPLY_TO_MISSING", "replyToId"),
]


async def test_a_malformed_post_names_what_is_wrong_and_leaves_nothing(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway:
        conversation = await gateway.open()
        for body, reason, field in MALFORMED:
            answer = await gateway.http.post(f"{conversation}/messages", content=body)
            assert (answer.status_code, reason_of(answer)) == (400, reason), body[:80]
            assert answer.json()["error"]["metadata"]["field"] == field
        assert (await gateway.http.get(f"{conversation}/events")).json()["events"] == []


async def test_a_wrong_parameter_is_named(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway:
        conversation = await gateway.open()
        for path, field in (
            (gateway.api("/agents?pageSize=x"), "pageSize"),
            (gateway.api("/agents?colour=red"), "colour"),
            (gateway.api("/runs?pageToken=zzz"), "pageToken"),
            (f"{conversation}/stream?after=-1", "after"),
            (f"{conversation}/stream?after=7", "after"),
            (gateway.api("/sessions?agentId=%00"), "agentId"),
        ):
            answer = await gateway.http.get(path)
            assert (answer.status_code, answer.json()["error"]["metadata"]["field"]) == (400, field)
        answer = await gateway.http.get(f"{conversation}/stream", headers={"Last-Event-ID": "x"})
        assert (answer.status_code, reason_of(answer)) == (400, "INVALID_SEQUENCE")


async def test_a_body_over_one_mebibyte_is_not_read(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway:
        conversation = await gateway.open()
        body = json.dumps({"text": "x" * 2_000_000, "messageId": "a"}).encode()
        answer = await gateway.http.post(f"{conversation}/messages", content=body)
        assert (answer.status_code, reason_of(answer)) == (413, "BODY_TOO_LARGE")


async def test_a_message_is_taken_once_by_its_key(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway:
        path = f"{await gateway.open(agent_id='main')}/messages"
        key = {"Idempotency-Key": "k-1"}
        first = await gateway.http.post(path, json={"text": "hello"}, headers=key)
        assert first.status_code == 201
        event = first.json()["event"]
        assert (event["sequence"], event["kind"], event["postState"]) == (1, "posted", "queued")
        sender = {"id": "default/ada", "displayName": "ada", "isBot": False, "isSelf": False}
        assert event["sender"] == sender
        again = await gateway.http.post(path, json={"text": "hello", "messageId": "k-1"})
        assert again.json() == first.json()
        other = await gateway.http.post(path, json={"text": "bye"}, headers=key)
        assert (other.status_code, reason_of(other)) == (409, "MESSAGE_ID_USED")
        both = await gateway.http.post(path, json={"text": "x", "messageId": "b"}, headers=key)
        assert (both.status_code, reason_of(both)) == (400, "INVALID_MESSAGE_ID")


async def test_sessions_are_made_once_by_their_key_and_opened(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway:
        path, key = gateway.api("/sessions"), {"Idempotency-Key": "s-1"}
        body = {"title": "Trip to Oslo", "agentId": "main"}
        created = await gateway.http.post(path, json=body, headers=key)
        assert created.status_code == 201
        session = created.json()["session"]
        again = await gateway.http.post(path, json=body, headers=key)
        assert again.json()["session"]["sessionKey"] == session["sessionKey"]
        listed = (await gateway.http.get(path, params={"agentId": "main"})).json()["sessions"]
        assert [each["title"] for each in listed if each["title"]] == ["Trip to Oslo"]
        main = await gateway.open(agent_id="main")
        assert await gateway.open(session_key=session["sessionKey"]) != main
        missing = await gateway.http.post(
            gateway.api("/conversations"), json={"sessionKey": "agent:main:main:chat:nope"}
        )
        assert missing.status_code == 404


async def test_lists_of_tasks_and_runs_are_shown(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway:
        assert (await gateway.http.get(gateway.api("/tasks"))).json()["tasks"] == []
        assert (await gateway.http.get(gateway.api("/runs"))).json()["runs"] == []
        assert (await gateway.http.get(gateway.api("/runs/99"))).status_code == 404
        agents = (await gateway.http.get(gateway.api("/agents"))).json()["agents"]
        assert [each["name"] for each in agents] == ["namespaces/default/agents/main"]


async def test_the_page_carries_no_secret_and_asks_nobody_else(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway, gateway.anonymous() as nobody:
        page = await nobody.get("/")
        assert page.is_success
        assert gateway.token not in page.text
        assert "//" not in page.text.replace("<!doctype html>", "")
        for name in ("chat.css", "chat.js", "api.js", "log.js", "markdown.js", "outbox.js"):
            text = (await nobody.get(f"/static/{name}")).text
            assert "innerHTML" not in text
            assert "insertAdjacentHTML" not in text


async def test_readiness_waits_for_the_services_behind(database_url: str) -> None:
    async with open_gateway_on(database_url) as gateway, gateway.anonymous() as probe:
        assert (await probe.get("/healthz")).json() == {"status": "ok"}
        assert (await probe.get("/readyz")).json() == {"status": "ok"}


def test_the_gateway_listens_on_loopback_unless_told() -> None:
    settings = Settings(database_url="postgresql://x", service_token=SecretStr("x" * 16))
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 18789)
    assert settings.grpc_listen.startswith("127.0.0.1:")
