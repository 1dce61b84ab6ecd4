-- The time of the whole product: now() plus an offset that only tests set on a connection.
CREATE FUNCTION public.fased_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT now()
    + coalesce(nullif(current_setting('fased.clock_offset', true), '')::interval, interval '0')
$$;

CREATE SCHEMA scheduler;

CREATE SEQUENCE scheduler.run_id;
CREATE SEQUENCE scheduler.lease_epoch;
CREATE SEQUENCE scheduler.lane_id;

-- A lane is found and locked by a key made of its namespace and name (store/queue/lanes.py). Its
-- runs are indexed by its id: the indexes below are written at every step of every run, a number is
-- a third of the names, and lanes made together lie together. An idle lane is forgotten, id and all.
CREATE TABLE scheduler.lane (
  key        bigint PRIMARY KEY,
  id         bigint NOT NULL,
  seq        bigint NOT NULL,
  touched_at timestamptz NOT NULL DEFAULT public.fased_now()
) WITH (fillfactor = 70);

-- Live runs only. state: 0 waiting, 1 ready, 2 leased, 3 parked, 4 delayed. What has a worker is
-- leased: a claim leaves state at 1 and so writes no index, for which neither may worker be in one.
-- Bodies are json, not jsonb: kept as written, a zero character too, and never looked into.
-- body is NULL when it is larger than 4 KiB: then it is in run_payload.
-- run_for is the whole deadline, time_left what parks and the like have left of it.
-- resumed: a worker held it before, so it may have checkpoints. has_children: it ever had one.
-- lane is NULL where it is the session's own.
-- More than half of each page is free, so that a leased run, which is longer, fits beside what it
-- was before.
-- What has one width stands first, what may be NULL last: the others are found without counting.
CREATE TABLE scheduler.run (
  id          bigint PRIMARY KEY,
  lane_key    bigint NOT NULL,
  lane_id     bigint NOT NULL,
  seq         bigint NOT NULL,
  epoch       bigint NOT NULL DEFAULT 0,
  run_for     interval NOT NULL,
  time_left   interval NOT NULL,
  created_at  timestamptz NOT NULL,
  run_at      timestamptz NOT NULL,
  attempts    integer NOT NULL DEFAULT 0,
  crashes     integer NOT NULL DEFAULT 0,
  wake_seq    integer NOT NULL DEFAULT 0,
  class       smallint NOT NULL,
  state       smallint NOT NULL,
  cancel      boolean NOT NULL DEFAULT false,
  resumed     boolean NOT NULL DEFAULT false,
  has_children boolean NOT NULL DEFAULT false,
  namespace   text COLLATE "C" NOT NULL,
  session_key text COLLATE "C" NOT NULL,
  last_reason text NOT NULL DEFAULT '',
  lane        text COLLATE "C",
  leased_at   timestamptz,
  deadline_at timestamptz,
  wake_at     timestamptz,
  worker      uuid,
  parent_run  bigint,
  task_id     uuid,
  body        json
) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0);
CREATE UNIQUE INDEX run_head ON scheduler.run (lane_id) WHERE state IN (1, 2, 3);
CREATE INDEX run_waiting  ON scheduler.run (lane_id, seq) WHERE state = 0;
CREATE INDEX run_ready    ON scheduler.run (class, namespace, id) WHERE state = 1;
CREATE INDEX run_wake     ON scheduler.run (wake_at) WHERE state = 3;
CREATE INDEX run_delayed  ON scheduler.run (run_at) WHERE state = 4;
CREATE INDEX run_task     ON scheduler.run (task_id, id) WHERE task_id IS NOT NULL;
CREATE INDEX run_parent   ON scheduler.run (parent_run) WHERE parent_run IS NOT NULL;
-- Only what cannot be found by its lane: a turn waits, runs and parks in its session's own.
CREATE INDEX run_session  ON scheduler.run (namespace, session_key, id)
  WHERE state = 4 OR lane IS NOT NULL;

CREATE TABLE scheduler.run_payload (
  run_id bigint PRIMARY KEY,
  body   json NOT NULL
);

CREATE TABLE scheduler.enqueue_key (
  namespace  text COLLATE "C" NOT NULL,
  key        text COLLATE "C" NOT NULL,
  run_ids    bigint[] NOT NULL,
  created_at timestamptz NOT NULL DEFAULT public.fased_now(),
  PRIMARY KEY (namespace, key)
);
CREATE INDEX enqueue_key_age ON scheduler.enqueue_key (created_at);

CREATE TABLE scheduler.worker (
  id           uuid PRIMARY KEY,
  expires_at   timestamptz NOT NULL,
  heartbeat_at timestamptz NOT NULL,
  providers    text[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 20);

-- By whom runs are leased, a row for each claim; forgotten when its worker holds none of them.
CREATE TABLE scheduler.claim (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  worker         uuid NOT NULL,
  run_ids        bigint[] NOT NULL,
  claimed_at     timestamptz NOT NULL,
  first_deadline timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX claim_worker ON scheduler.claim (worker);

CREATE TABLE scheduler.checkpoint (
  run_id     bigint NOT NULL,
  step       text COLLATE "C" NOT NULL,
  value      json NOT NULL,
  created_at timestamptz NOT NULL DEFAULT public.fased_now(),
  PRIMARY KEY (run_id, step)
);
CREATE INDEX checkpoint_age ON scheduler.checkpoint (created_at);

-- Ended runs, one partition a day (the sweep makes and drops them); what falls outside every day
-- lands in the default partition. Rows of slots that were not run have slot_count, first and last.
CREATE TABLE scheduler.run_history (
  id          bigint NOT NULL,
  namespace   text COLLATE "C" NOT NULL,
  lane        text COLLATE "C",
  class       smallint NOT NULL,
  attempts    integer NOT NULL DEFAULT 0,
  crashes     integer NOT NULL DEFAULT 0,
  epoch       bigint NOT NULL DEFAULT 0,
  parent_run  bigint,
  task_id     uuid,
  worker      uuid,
  session_key text COLLATE "C" NOT NULL,
  last_reason text NOT NULL DEFAULT '',
  run_for     interval NOT NULL,
  created_at  timestamptz NOT NULL,
  run_at      timestamptz NOT NULL,
  leased_at   timestamptz,
  ended_at    timestamptz NOT NULL,
  outcome     text NOT NULL,
  deliver     boolean NOT NULL DEFAULT false,
  slot_count  bigint NOT NULL DEFAULT 0,
  first_slot  timestamptz,
  last_slot   timestamptz,
  body        json NOT NULL,
  result      json NOT NULL DEFAULT '{}'
) PARTITION BY RANGE (ended_at);
CREATE INDEX run_history_id ON scheduler.run_history (id);
CREATE INDEX run_history_namespace ON scheduler.run_history (namespace, ended_at, id);
-- A hash of the names: they would be three quarters of every entry.
CREATE INDEX run_history_session ON scheduler.run_history (
  hashtextextended(session_key, hashtextextended(namespace, 0)), ended_at, id);
CREATE INDEX run_history_task ON scheduler.run_history (task_id, ended_at, id)
  WHERE task_id IS NOT NULL;
CREATE TABLE scheduler.run_history_default PARTITION OF scheduler.run_history DEFAULT;

CREATE TABLE scheduler.run_delivery (
  run_id      bigint NOT NULL,
  delivery_id text NOT NULL,
  namespace   text COLLATE "C" NOT NULL,
  state       text NOT NULL,
  updated_at  timestamptz NOT NULL DEFAULT public.fased_now(),
  PRIMARY KEY (run_id, delivery_id)
);
CREATE INDEX run_delivery_age ON scheduler.run_delivery (updated_at);

-- packed holds that many events, of one transaction and one shard (core/events.py).
CREATE TABLE scheduler.outbox (
  shard      smallint NOT NULL,
  id         bigint GENERATED ALWAYS AS IDENTITY,
  events     integer NOT NULL,
  packed     bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT public.fased_now(),
  PRIMARY KEY (shard, id)
);

-- spec is the declarative part of a task as the codec writes it.
CREATE TABLE scheduler.task (
  namespace    text COLLATE "C" NOT NULL,
  id           uuid NOT NULL,
  name         text NOT NULL,
  agent_id     text COLLATE "C" NOT NULL,
  session_key  text COLLATE "C" NOT NULL,
  spec         jsonb NOT NULL,
  state        text NOT NULL,
  reason       text NOT NULL DEFAULT '',
  message      text NOT NULL DEFAULT '',
  setup_target text NOT NULL DEFAULT '',
  generation   bigint NOT NULL DEFAULT 1,
  managed_by   text NOT NULL DEFAULT '',
  zone_data    text NOT NULL DEFAULT '',
  request_id   text,
  created_at   timestamptz NOT NULL DEFAULT public.fased_now(),
  updated_at   timestamptz NOT NULL DEFAULT public.fased_now(),
  PRIMARY KEY (id)
);
CREATE UNIQUE INDEX task_request ON scheduler.task (namespace, request_id);
CREATE INDEX task_listed ON scheduler.task (namespace, created_at, id);
CREATE INDEX task_name ON scheduler.task (namespace, name);
CREATE INDEX task_session ON scheduler.task (namespace, session_key);
CREATE INDEX task_owned ON scheduler.task (namespace, managed_by) WHERE managed_by <> '';

-- gen is the edit of the task that next_at belongs to.
CREATE TABLE scheduler.task_due (
  task_id   uuid PRIMARY KEY,
  gen       bigint NOT NULL,
  namespace text COLLATE "C" NOT NULL,
  next_at   timestamptz,
  last_slot timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 70);
CREATE INDEX task_due_at ON scheduler.task_due (next_at) WHERE next_at IS NOT NULL;

CREATE TABLE scheduler.task_stats (
  task_id         uuid PRIMARY KEY,
  namespace       text COLLATE "C" NOT NULL,
  last_run_id     bigint,
  last_outcome    text NOT NULL DEFAULT '',
  last_ended_at   timestamptz,
  failures_in_row integer NOT NULL DEFAULT 0,
  runs_total      bigint NOT NULL DEFAULT 0,
  successes_total bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
CREATE INDEX task_stats_failing ON scheduler.task_stats (task_id) WHERE failures_in_row >= 5;

-- The answers given to request ids, so that a repeated request answers alike.
CREATE TABLE scheduler.answer (
  namespace  text COLLATE "C" NOT NULL,
  request_id text COLLATE "C" NOT NULL,
  value      bytea NOT NULL DEFAULT '',
  at         timestamptz NOT NULL DEFAULT public.fased_now(),
  PRIMARY KEY (namespace, request_id)
);
CREATE INDEX answer_at ON scheduler.answer (at);

-- Who defines rows from elsewhere, by kind of row, and the generation that was applied last.
CREATE TABLE scheduler.owner (
  kind text NOT NULL,
  namespace text COLLATE "C" NOT NULL,
  managed_by text COLLATE "C" NOT NULL,
  generation bigint NOT NULL,
  PRIMARY KEY (kind, namespace, managed_by)
);
