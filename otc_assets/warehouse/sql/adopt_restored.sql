-- Makes a database that was restored from a dump this server's own. Its events and loads get the number of this
-- transaction: those of the other server mean nothing here. It gets a journal of its own, because the journal of the
-- dumped database may have later events, and that database may still write to it.
ALTER TABLE otc.events DISABLE TRIGGER append_only;
UPDATE otc.events SET xid = pg_current_xact_id();
ALTER TABLE otc.events ENABLE ALWAYS TRIGGER append_only;
UPDATE otc.computed_week SET xid = pg_current_xact_id();
UPDATE otc.journal SET journal_id = gen_random_uuid();
