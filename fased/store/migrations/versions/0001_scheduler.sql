CREATE SCHEMA scheduler;
