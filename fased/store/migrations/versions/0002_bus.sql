CREATE SCHEMA bus;

-- One row a partition: its lock orders the publishers, so that offsets have no gap and become
-- visible in their order.
CREATE TABLE bus.partition (
    topic text NOT NULL,
    partition int NOT NULL,
    next_offset bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

CREATE TABLE bus.record (
    topic text NOT NULL,
    partition int NOT NULL,
    "offset" bigint NOT NULL,
    key text NOT NULL,
    value bytea NOT NULL,
    headers jsonb NOT NULL,
    published_at timestamptz NOT NULL DEFAULT public.fased_now(),
    PRIMARY KEY (topic, partition, "offset")
);

-- The members of a consumer group; a row that is gone is a lease that has ended.
CREATE TABLE bus.member (
    consumer_group text NOT NULL,
    id uuid NOT NULL,
    topics text[] NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (consumer_group, id)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- How far a group has come in a partition, and which member may say so: every claim counts the
-- generation up, and a commit names the one it was claimed under.
CREATE TABLE bus.consumer_offset (
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    next_offset bigint NOT NULL DEFAULT 0,
    generation bigint NOT NULL DEFAULT 0,
    owner uuid,
    PRIMARY KEY (consumer_group, topic, partition)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
