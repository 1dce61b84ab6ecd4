CREATE SCHEMA router;

-- One row a namespace: the version that every change of its bindings, session policy or options
-- moves. `session` is JSON as text: of its identity links the first holds a shared id, and jsonb
-- keeps no order.
CREATE TABLE router.routing (
    namespace text PRIMARY KEY,
    version bigint NOT NULL DEFAULT 0,
    session text NOT NULL DEFAULT '{}',
    options jsonb NOT NULL DEFAULT '{}',
    settings_managed_by text NOT NULL DEFAULT ''
);

CREATE TABLE router.binding (
    namespace text NOT NULL,
    id text NOT NULL,
    position int NOT NULL,
    agent_id text NOT NULL,
    match jsonb NOT NULL,
    managed_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT public.fased_now(),
    PRIMARY KEY (namespace, id)
);

-- `identity` is the key with the platform's case kept: two chats never share a row.
CREATE TABLE router.session (
    namespace text NOT NULL,
    session_key text NOT NULL,
    identity text NOT NULL,
    agent_id text NOT NULL,
    session_id uuid NOT NULL,
    title text NOT NULL DEFAULT '',
    base_key text NOT NULL DEFAULT '',
    active_key text NOT NULL DEFAULT '',
    channel text NOT NULL DEFAULT '',
    account_id text NOT NULL DEFAULT '',
    peer_id text NOT NULL DEFAULT '',
    model text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT public.fased_now(),
    last_message_at timestamptz NOT NULL DEFAULT public.fased_now(),
    closed_at timestamptz,
    PRIMARY KEY (namespace, session_key),
    UNIQUE (namespace, identity)
);
CREATE INDEX session_recent ON router.session (namespace, last_message_at, session_key);
CREATE INDEX session_base ON router.session (namespace, base_key) WHERE base_key <> '';

-- An event's command happens once: its effect and its reply commit with this row.
CREATE TABLE router.command_effect (
    namespace text NOT NULL,
    event_id text NOT NULL,
    at timestamptz NOT NULL DEFAULT public.fased_now(),
    PRIMARY KEY (namespace, event_id)
);
CREATE INDEX command_effect_at ON router.command_effect (at);

CREATE TABLE router.request (
    namespace text NOT NULL,
    request_id uuid NOT NULL,
    resource text NOT NULL,
    at timestamptz NOT NULL DEFAULT public.fased_now(),
    PRIMARY KEY (namespace, request_id)
);
CREATE INDEX request_at ON router.request (at);

CREATE TABLE router.outbox (
    shard smallint NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    topic text NOT NULL,
    key text NOT NULL,
    event_id text NOT NULL,
    headers jsonb NOT NULL,
    value bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT public.fased_now(),
    PRIMARY KEY (shard, id)
);
