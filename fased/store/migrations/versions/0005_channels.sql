CREATE SCHEMA channels;

CREATE TABLE channels.account (
  namespace  text COLLATE "C" NOT NULL,
  channel    text COLLATE "C" NOT NULL,
  account_id text COLLATE "C" NOT NULL,
  enabled    boolean NOT NULL DEFAULT true,
  managed_by text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT public.fased_now(),
  -- What its owner set; `credential` is a reference.
  credential     text NOT NULL DEFAULT '',
  mode           text NOT NULL DEFAULT 'poll',
  api_base       text NOT NULL DEFAULT '',
  webhook_url    text NOT NULL DEFAULT '',
  unknown_policy text NOT NULL DEFAULT 'hold',
  -- What was seen of its connection.
  connected         boolean NOT NULL DEFAULT false,
  bot_id            text NOT NULL DEFAULT '',
  bot_username      text NOT NULL DEFAULT '',
  bot_name          text NOT NULL DEFAULT '',
  last_inbound_at   timestamptz,
  last_error_reason text NOT NULL DEFAULT '',
  last_error        text NOT NULL DEFAULT '',
  last_error_at     timestamptz,
  probed_at         timestamptz,
  probe_reason      text NOT NULL DEFAULT '',
  probe_message     text NOT NULL DEFAULT '',
  PRIMARY KEY (namespace, channel, account_id)
) WITH (fillfactor = 70);

-- Who receives for an account, until when, and how far it has come: `next_update_id` counts the
-- updates of the bot `bot_id`. A stale holder is told by `generation`.
CREATE TABLE channels.connection_lease (
  namespace  text COLLATE "C" NOT NULL,
  channel    text COLLATE "C" NOT NULL,
  account_id text COLLATE "C" NOT NULL,
  owner      text NOT NULL DEFAULT '',
  generation bigint NOT NULL DEFAULT 0,
  expires_at timestamptz NOT NULL,
  bot_id     text NOT NULL DEFAULT '',
  next_update_id bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (namespace, channel, account_id),
  FOREIGN KEY (namespace, channel, account_id) REFERENCES channels.account ON DELETE CASCADE
) WITH (fillfactor = 50);

-- A chat that has another id now. Here it keeps its first one: what comes from it is stored, and
-- what goes to it is addressed, by this table.
CREATE TABLE channels.migrated_chat (
  namespace  text COLLATE "C" NOT NULL,
  channel    text COLLATE "C" NOT NULL,
  account_id text COLLATE "C" NOT NULL,
  old_id     text COLLATE "C" NOT NULL,
  new_id     text COLLATE "C" NOT NULL,
  created_at timestamptz NOT NULL DEFAULT public.fased_now(),
  PRIMARY KEY (namespace, channel, account_id, old_id)
);
CREATE INDEX migrated_chat_new ON channels.migrated_chat (namespace, channel, account_id, new_id);

-- Requests that were answered, so that a repeated one changes nothing more.
CREATE TABLE channels.request (
  namespace  text COLLATE "C" NOT NULL,
  request_id uuid NOT NULL,
  resource   text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT public.fased_now(),
  PRIMARY KEY (namespace, request_id)
);

CREATE INDEX request_age ON channels.request (created_at);

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
  -- The order in a chat; what is needed until the last chunk has an end.
  sequence    bigint GENERATED ALWAYS AS IDENTITY,
  not_before  timestamptz,
  expires_at  timestamptz,
  outbound    bytea,
  traceparent text NOT NULL DEFAULT '',
  PRIMARY KEY (namespace, id)
) WITH (fillfactor = 70);
CREATE INDEX delivery_next
  ON channels.delivery (namespace, channel, account_id, peer_kind, peer_id, sequence)
  WHERE state = 'pending';
-- Rows lie in the order of their time: a few blocks' bounds find the old ones.
CREATE INDEX delivery_age ON channels.delivery USING brin (created_at);
CREATE INDEX delivery_created ON channels.delivery (namespace, created_at, id);
CREATE INDEX delivery_unsent ON channels.delivery (namespace, state, created_at, id)
  WHERE state <> 'sent';
CREATE INDEX delivery_account ON channels.delivery (namespace, channel, account_id, updated_at)
  WHERE state = 'sent';

-- Never the same twice: a lane is deleted when it is empty, and made anew.
CREATE SEQUENCE channels.lane_generation;

-- A chat that has deliveries to send, `waiting` of them, from `next_at` on. Its `owner` sends for
-- it alone until then; a stale one is told by `generation`.
CREATE TABLE channels.delivery_lane (
  namespace  text COLLATE "C" NOT NULL,
  channel    text COLLATE "C" NOT NULL,
  account_id text COLLATE "C" NOT NULL,
  peer_kind  text NOT NULL,
  peer_id    text COLLATE "C" NOT NULL,
  waiting    integer NOT NULL,
  next_at    timestamptz NOT NULL,
  owner      text NOT NULL DEFAULT '',
  generation bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (namespace, channel, account_id, peer_kind, peer_id)
) WITH (fillfactor = 50);
CREATE INDEX delivery_lane_due
  ON channels.delivery_lane (namespace, channel, account_id, next_at);

-- A part of a delivery, sent as one platform message; its texts are kept until it is sent.
-- `attempts` counts the sends that were begun, `unknowns` those whose end nobody saw.
CREATE TABLE channels.delivery_chunk (
  namespace   text COLLATE "C" NOT NULL,
  delivery_id uuid NOT NULL,
  ordinal     integer NOT NULL,
  state       text NOT NULL,
  text        text NOT NULL DEFAULT '',
  receipt     text NOT NULL DEFAULT '',
  plain       text NOT NULL DEFAULT '',
  is_plain    boolean NOT NULL DEFAULT false,
  attempts    integer NOT NULL DEFAULT 0,
  unknowns    integer NOT NULL DEFAULT 0,
  PRIMARY KEY (namespace, delivery_id, ordinal)
) WITH (fillfactor = 70);

CREATE TABLE channels.outbox (
  shard      smallint NOT NULL,
  id         bigint GENERATED ALWAYS AS IDENTITY,
  events     integer NOT NULL,
  packed     bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT public.fased_now(),
  PRIMARY KEY (shard, id)
);

-- Who defines rows from elsewhere, by kind of row, and the generation that was applied last.
CREATE TABLE channels.owner (
  kind text NOT NULL,
  namespace text COLLATE "C" NOT NULL,
  managed_by text COLLATE "C" NOT NULL,
  generation bigint NOT NULL,
  PRIMARY KEY (kind, namespace, managed_by)
);
