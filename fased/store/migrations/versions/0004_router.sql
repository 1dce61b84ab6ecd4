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

-- Who may write to an account; one without a row has the default gate.
CREATE TABLE router.gate (
    namespace text NOT NULL,
    channel text NOT NULL,
    account_id text NOT NULL,
    policy jsonb NOT NULL,
    managed_by text NOT NULL DEFAULT '',
    PRIMARY KEY (namespace, channel, account_id)
);

-- Strangers who wait for approval. One who asks again after the code expired gets a new row.
CREATE TABLE router.pairing (
    namespace text NOT NULL,
    channel text NOT NULL,
    account_id text NOT NULL,
    sender_id text NOT NULL,
    sender_name text NOT NULL,
    code text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, channel, account_id, sender_id),
    UNIQUE (namespace, code)
);

-- Who was approved or listed by command, for direct messages of one account.
CREATE TABLE router.allowed_sender (
    namespace text NOT NULL,
    channel text NOT NULL,
    account_id text NOT NULL,
    sender_id text NOT NULL,
    sender_name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT public.fased_now(),
    PRIMARY KEY (namespace, channel, account_id, sender_id)
);

-- The last messages of a group that were not meant for the bot. `given_to` is the event whose run
-- was shown the line; the line stays, so that its own event, redelivered, is not kept again.
CREATE TABLE router.group_history (
    namespace text NOT NULL,
    chat text NOT NULL,
    event_id text NOT NULL,
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    line text NOT NULL,
    given_to text NOT NULL DEFAULT '',
    received_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, chat, event_id)
);
CREATE INDEX group_history_received ON router.group_history (received_at);

-- What an event does in this service happens once: a command's effect and its reply, or a pairing
-- request and its notice, commit with this row.
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
  shard      smallint NOT NULL,
  id         bigint GENERATED ALWAYS AS IDENTITY,
  events     integer NOT NULL,
  packed     bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT public.fased_now(),
  PRIMARY KEY (shard, id)
);

-- Who defines rows from elsewhere, by kind of row, and the generation that was applied last.
CREATE TABLE router.owner (
    kind text NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    managed_by text COLLATE "C" NOT NULL,
    generation bigint NOT NULL,
    PRIMARY KEY (kind, namespace, managed_by)
);
