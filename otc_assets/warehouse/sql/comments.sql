-- Comments on everything that is not in the registry of tables: other tables, their columns, functions.
COMMENT ON TABLE otc.publication IS
    'A captured publication of a (week, tier), or a part of one. Its bytes are in the archive under digest.';
COMMENT ON COLUMN otc.publication.scope IS
    'FULL: all rows that FINRA has. ATS, NON_ATS: a download file, one half. PARTIAL: some rows.';
COMMENT ON COLUMN otc.publication.rows_expected IS 'Record-Total, if FINRA stated one.';
COMMENT ON COLUMN otc.publication.last_update_date IS 'The newest lastUpdateDate of its rows.';
COMMENT ON COLUMN otc.publication.ats_last_update_date IS 'The newest lastUpdateDate of its ATS rows.';
COMMENT ON COLUMN otc.publication.non_ats_last_update_date IS 'The newest lastUpdateDate of its other rows.';
COMMENT ON COLUMN otc.publication.quarantine_reason IS
    'Why the capture can''t be a revision of the one before it. It is not effective until it is accepted.';
COMMENT ON COLUMN otc.publication.accepted_at IS 'When an operator accepted the quarantined capture.';
COMMENT ON COLUMN otc.publication.accepted_over IS
    'The newest lastUpdateDate of the captures that were effective when it was accepted. It takes precedence.';
COMMENT ON COLUMN otc.publication.withdrawn_at IS 'When an operator withdrew the capture. It is not effective.';
COMMENT ON COLUMN otc.publication.rows_in_use IS
    'The number of its rows in venue_volume and published_total, as of the week''s last computation.';
COMMENT ON TABLE otc.rejected_record IS 'Rows that were not accepted, verbatim, with the reason.';
COMMENT ON TABLE otc.week_quality IS 'The grade of each (week, tier), and the findings that it is computed from.';
COMMENT ON COLUMN otc.week_quality.version IS 'The version of venue_volume that was graded.';
COMMENT ON TABLE otc.computed_week IS
    'The version from which each week of each table was computed. The week is stale if the version is another one now.';
COMMENT ON COLUMN otc.computed_week.version IS
    'The versions of the inputs, and <table>@<code version> of each rule whose code version is above 1.';
COMMENT ON COLUMN otc.computed_week.xid IS 'The transaction of the load; otc.require_final checks who can see it.';
COMMENT ON TABLE otc.retention IS 'Retention classes: their tables, and how many weeks before the current one are kept.';
COMMENT ON COLUMN otc.retention.keep_weeks IS 'NULL: indefinitely.';
COMMENT ON COLUMN otc.retention.dropped_until IS 'The newest week that was ever deleted.';
COMMENT ON TABLE otc.definition IS 'Digests of the definitions that follow the code; otc-assets migrate compares them.';
COMMENT ON TABLE otc.events IS
    'What happened, append-only. Append with otc.append_event; read in the order of (xid, id), see docs/events.md.';
COMMENT ON COLUMN otc.events.aggregate_id IS
    'Of a week its Friday; of a file its digest, or its origin if there is none; of a gap week and tier; of a check '
    'asset.check and week; of retention the class.';
COMMENT ON COLUMN otc.events.version IS '1, 2, ... of each aggregate.';
COMMENT ON COLUMN otc.events.metadata IS 'schema (of the payload); run_id, trace_id and digest if they are known.';
COMMENT ON COLUMN otc.events.xid IS
    'The transaction that wrote it. A reader that reads only events of transactions older than all running ones, in '
    'the order of (xid, id), never skips an event.';
COMMENT ON COLUMN otc.events.began_at IS
    'When the transaction began: the time of what it recorded, such as captured_at, accepted_at or judged_at.';
COMMENT ON COLUMN otc.events.write_moment IS
    'The known_from of the rows that the transaction wrote before it appended the event; NULL if it wrote none.';
COMMENT ON TABLE otc.journal IS 'The id under which the archive has a copy of otc.events; one row.';
COMMENT ON TABLE otc.week_state IS 'The processing state of each (week, tier): a projection of otc.events.';
COMMENT ON COLUMN otc.week_state.state IS
    'pending: in the calendar, not yet published. captured: its bytes are archived. normalized: its rows are in '
    'venue_volume. summarized: both summaries are computed from these rows. checked: they are also graded. revised: '
    'its rows have changed since they were summarized and graded. retired: deleted from venue_volume by retention.';
COMMENT ON COLUMN otc.week_state.symbol_summary_at IS
    'When symbol_summary was computed from the present rows; so venue_share_at.';
COMMENT ON COLUMN otc.week_state.checked_at IS 'When the present rows were graded.';
COMMENT ON COLUMN otc.week_state.revised_at IS 'When rows were last found to differ from those of an earlier load.';
COMMENT ON TABLE otc.file_ledger IS 'The outcome of each file or reply of FINRA: a projection of otc.events.';
COMMENT ON COLUMN otc.file_ledger.file IS 'Its digest; its origin if there were no bytes.';
COMMENT ON COLUMN otc.file_ledger.publications IS
    'The number of publications recorded from it; the row counts are sums over them.';
COMMENT ON COLUMN otc.file_ledger.rejections IS
    'How often it was rejected as a whole; reason is the reason of the last time.';
COMMENT ON TABLE otc.gap_ledger IS
    'Every gap that was reported, open if closed_at is NULL: a projection of otc.events.';
COMMENT ON COLUMN otc.gap_ledger.version IS 'The version of the event that opened it.';
COMMENT ON COLUMN otc.gap_ledger.fetchable IS 'Whether FINRA offered the week when the gap was opened.';
COMMENT ON TABLE otc.alert IS
    'A message to people: a check that began to fail for a week, a run that failed, or a check that passed again.';
COMMENT ON COLUMN otc.alert.subject IS
    'What fails: a check and its week, as in ''venue_volume.grade 2026-08-21'', or ''run'' and the run''s id. Of a recovery: ''recovery of'' and the subject of the failure.';
COMMENT ON COLUMN otc.alert.event_id IS 'The event that records the failure: for a check, its id in otc.events; for a run, Dagster''s storage id.';
COMMENT ON COLUMN otc.alert.recovery_of IS
    'Of a recovery: the alert of the failure. A recovery is sent to the destinations that have received that alert.';
COMMENT ON COLUMN otc.alert.blocking IS
    'Whether the failure blocks downstream assets. Such an alert waits for no other message but one that has such an alert.';
COMMENT ON COLUMN otc.alert.state IS 'discarded: not sent, because OTC_ALERT_URL was not set; a recovery also because no destination has its failure, or because the check failed again.';
COMMENT ON COLUMN otc.alert.claimed_until IS
    'Until then a process is sending it. If the time has passed, that process has died.';
COMMENT ON COLUMN otc.alert.attempts IS 'The number of attempts to send it, whether they succeeded or not.';
COMMENT ON COLUMN otc.alert.delivered_to IS
    'The destinations that have received it, each a slow hash of its URL. Only those that failed are tried again.';
COMMENT ON COLUMN otc.alert.resolved_at IS
    'When the check passed again for that week. Its next failure is a new alert.';
COMMENT ON FUNCTION otc.write_moment IS
    'The moment from which the rows that this transaction writes are known; the first call determines it.';
COMMENT ON FUNCTION otc.transaction_time IS
    'now(), the beginning of the transaction; in a rebuild from the archive, that of the recorded transaction.';
COMMENT ON FUNCTION otc.known_until IS
    'Answers as of moments before this one never change; a running load may still add to later ones.';
COMMENT ON FUNCTION otc.require_final IS
    'Returns no rows if an answer as of the moment never changes; otherwise an error (OT001, or 40001: ask again).';
COMMENT ON FUNCTION otc.retained_from IS
    'The oldest week that is kept; the loader refuses older ones. NULL: everything is kept.';
COMMENT ON FUNCTION otc.drop_expired_weeks IS 'Deletes the weeks that are no longer kept, by retention class.';
COMMENT ON FUNCTION otc.apply_retention IS
    'Deletes the weeks that are no longer kept, appends an event, and returns the classes of which weeks were deleted.';
COMMENT ON FUNCTION otc.retention_job IS 'otc.apply_retention, with the arguments of a TimescaleDB job.';
COMMENT ON FUNCTION otc.append_event IS
    'Appends an event as its aggregate''s next version, and projects it. With expected_version (0: there was none) '
    'it fails with OTC01 if the aggregate has another version.';
COMMENT ON FUNCTION otc.project_event IS 'Applies an event to week_state, file_ledger and gap_ledger.';
COMMENT ON FUNCTION otc.replay_events IS 'Rebuilds week_state, file_ledger and gap_ledger from the events alone.';
COMMENT ON FUNCTION otc.compress_again IS
    'Compresses the chunks of a week again that a load has decompressed, with the rights of the owner.';
COMMENT ON FUNCTION otc.refresh_aggregates IS
    'Refreshes the continuous aggregates of a week and its month, with the rights of the owner, inside a transaction.';
