CREATE SCHEMA executor;
