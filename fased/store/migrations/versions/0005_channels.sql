CREATE SCHEMA channels;

CREATE TABLE channels.account (
  namespace  text COLLATE "C" NOT NULL,
  channel    text COLLATE "C" NOT NULL,
  account_id text COLLATE "C" NOT NULL,
  credential text NOT NULL DEFAULT '',
  enabled    boolean NOT NULL DEFAULT true,
  managed_by text NOT NULL DEFAULT '',
  last_error text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT public.fased_now(),
  PRIMARY KEY (namespace, channel, account_id)
);

-- A WebChat chat. The lock of its row orders what happens in it, so that sequences have no gap
-- and become visible in their order.
CREATE TABLE channels.conversation (
  namespace     text COLLATE "C" NOT NULL,
  id            uuid NOT NULL,
  agent_id      text NOT NULL,
  session_key   text COLLATE "C" NOT NULL,
  last_sequence bigint NOT NULL DEFAULT 0,
  created_at    timestamptz NOT NULL DEFAULT public.fased_now(),
  PRIMARY KEY (namespace, id)
) WITH (fillfactor = 50);

-- A person's message and where it stands; its text is in its `posted` event.
CREATE TABLE channels.post (
  namespace       text COLLATE "C" NOT NULL,
  conversation_id uuid NOT NULL,
  message_id      text COLLATE "C" NOT NULL,
  sequence        bigint NOT NULL,
  state           text NOT NULL,
  created_at      timestamptz NOT NULL DEFAULT public.fased_now(),
  PRIMARY KEY (namespace, conversation_id, message_id)
) WITH (fillfactor = 70);
CREATE INDEX post_created ON channels.post (namespace, created_at);

CREATE TABLE channels.conversation_event (
  namespace       text COLLATE "C" NOT NULL,
  conversation_id uuid NOT NULL,
  sequence        bigint NOT NULL,
  kind            text NOT NULL,
  message_id      text COLLATE "C" NOT NULL,
  text            text NOT NULL DEFAULT '',
  message_kind    text,
  post_state      text,
  post_id         text COLLATE "C" NOT NULL DEFAULT '',
  agent_id        text NOT NULL DEFAULT '',
  run_id          bigint,
  reply_to_id     text NOT NULL DEFAULT '',
  sender_id       text NOT NULL DEFAULT '',
  sender_name     text NOT NULL DEFAULT '',
  created_at      timestamptz NOT NULL DEFAULT public.fased_now(),
  PRIMARY KEY (namespace, conversation_id, sequence)
);
-- Finds the message that another one quotes.
CREATE INDEX conversation_event_message
  ON channels.conversation_event (namespace, conversation_id, message_id) WHERE kind <> 'state';

-- One logical result on its way to a chat; `id` is the outbound message's.
CREATE TABLE channels.delivery (
  namespace   text COLLATE "C" NOT NULL,
  id          uuid NOT NULL,
  channel     text COLLATE "C" NOT NULL,
  account_id  text COLLATE "C" NOT NULL,
  peer_kind   text NOT NULL,
  peer_id     text COLLATE "C" NOT NULL,
  thread_kind text,
  thread_id   text NOT NULL DEFAULT '',
  reply_to_id text NOT NULL DEFAULT '',
  run_id      bigint,
  state       text NOT NULL,
  reason      text NOT NULL DEFAULT '',
  message     text NOT NULL DEFAULT '',
  created_at  timestamptz NOT NULL DEFAULT public.fased_now(),
  updated_at  timestamptz NOT NULL DEFAULT public.fased_now(),
  PRIMARY KEY (namespace, id)
);
CREATE INDEX delivery_created ON channels.delivery (namespace, created_at, id);
CREATE INDEX delivery_unsent ON channels.delivery (namespace, state, created_at, id)
  WHERE state <> 'sent';
CREATE INDEX delivery_account ON channels.delivery (namespace, channel, account_id, updated_at)
  WHERE state = 'sent';

-- A part of a delivery, sent as one platform message; its text is kept until it is sent.
CREATE TABLE channels.delivery_chunk (
  namespace   text COLLATE "C" NOT NULL,
  delivery_id uuid NOT NULL,
  ordinal     integer NOT NULL,
  state       text NOT NULL,
  text        text NOT NULL DEFAULT '',
  receipt     text NOT NULL DEFAULT '',
  PRIMARY KEY (namespace, delivery_id, ordinal)
);

CREATE TABLE channels.outbox (
  shard      smallint NOT NULL,
  id         bigint GENERATED ALWAYS AS IDENTITY,
  topic      text NOT NULL,
  key        text NOT NULL,
  event_id   text NOT NULL,
  headers    jsonb       NOT NULL,
  value      bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT public.fased_now(),
  PRIMARY KEY (shard, id)
);
