CREATE SCHEMA channels;
