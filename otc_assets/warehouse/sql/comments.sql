-- Comments on everything that is not in the registry of tables: other tables and views, functions, and the columns whose
-- meaning is not the one that schema.NOTES has under their name.
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
COMMENT ON COLUMN otc.publication.id IS 'Identity, in the order of recording.';
COMMENT ON COLUMN otc.publication.revision IS '1, 2, ... of the captures of one scope of the (week, tier).';
COMMENT ON COLUMN otc.publication.digest IS 'SHA-256 of its bytes, which the archive has under it.';
COMMENT ON COLUMN otc.publication.origin IS 'Where its bytes are from: a URL, or the path of a file.';
COMMENT ON COLUMN otc.publication.summary_type IS 'The summaryTypeCode that was given for a file of totals without that column.';
COMMENT ON COLUMN otc.publication.layout IS 'The layout of its bytes: website, legacy, api or api-json.';
COMMENT ON COLUMN otc.publication.bytes IS 'The number of its bytes.';
COMMENT ON COLUMN otc.publication.rows_received IS 'The number of its rows, accepted or not.';
COMMENT ON COLUMN otc.publication.rows_accepted IS 'The number of rows that were accepted.';
COMMENT ON COLUMN otc.publication.rows_rejected IS
    'The number of rows that were not accepted: those in rejected_record.';
COMMENT ON COLUMN otc.publication.complete IS 'Whether it has every row of its scope that FINRA has.';
COMMENT ON COLUMN otc.publication.initial_published_date IS 'The oldest initialPublishedDate of its rows.';
COMMENT ON COLUMN otc.publication.run_id IS 'The Dagster run that recorded it; NULL outside runs.';
COMMENT ON COLUMN otc.publication.captured_at IS 'When it was recorded.';
COMMENT ON COLUMN otc.publication.withdrawal_reason IS 'Why an operator withdrew it.';
COMMENT ON TABLE otc.rejected_record IS 'Rows that were not accepted, verbatim, with the reason.';
COMMENT ON COLUMN otc.rejected_record.id IS 'Identity.';
COMMENT ON COLUMN otc.rejected_record.reason IS 'Why the row was not accepted.';
COMMENT ON TABLE otc.week_quality IS 'The grade of each (week, tier), and the findings that it is computed from.';
COMMENT ON COLUMN otc.week_quality.version IS 'The version of venue_volume that was graded.';
COMMENT ON COLUMN otc.week_quality.grade IS 'A to F; F blocks downstream assets.';
COMMENT ON COLUMN otc.week_quality.score IS '0 to 100: 100 minus the points of the failed checks.';
COMMENT ON COLUMN otc.week_quality.findings IS
    'The failed findings: check, severity, observed value, threshold and explanation.';
COMMENT ON COLUMN otc.week_quality.judged_at IS 'When the week was graded.';
COMMENT ON TABLE otc.computed_week IS
    'The version from which each week of each table was computed. The week is stale if the version is another one now.';
COMMENT ON COLUMN otc.computed_week.version IS
    'The versions of the inputs, and <table>@<code version> of each rule whose code version is above 1.';
COMMENT ON COLUMN otc.computed_week.xid IS 'The transaction of the load; otc.require_final checks who can see it.';
COMMENT ON COLUMN otc.computed_week.table_name IS 'The table in the schema otc.';
COMMENT ON COLUMN otc.computed_week.rows IS 'The number of rows that were computed.';
COMMENT ON COLUMN otc.computed_week.computed_at IS 'When they were computed.';
COMMENT ON TABLE otc.retention IS 'Retention classes: their tables, and how many weeks before the current one are kept.';
COMMENT ON COLUMN otc.retention.keep_weeks IS 'NULL: indefinitely.';
COMMENT ON COLUMN otc.retention.dropped_until IS 'The newest week that was ever deleted.';
COMMENT ON COLUMN otc.retention.what IS 'The retention class: venue_volume or summaries.';
COMMENT ON COLUMN otc.retention.tables IS 'The tables of the class, whose old weeks are deleted.';
COMMENT ON COLUMN otc.retention.applied_at IS 'When retention was last applied.';
COMMENT ON TABLE otc.definition IS 'Digests of the definitions that follow the code; otc-assets migrate compares them.';
COMMENT ON COLUMN otc.definition.name IS 'The name of the definition.';
COMMENT ON COLUMN otc.definition.digest IS 'SHA-256 of its words.';
COMMENT ON COLUMN otc.definition.applied_at IS 'When otc-assets migrate applied it.';
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
COMMENT ON COLUMN otc.events.id IS 'Identity; read in the order of (xid, id).';
COMMENT ON COLUMN otc.events.event_id IS 'The event, in the archive''s journal, too.';
COMMENT ON COLUMN otc.events.event_type IS 'What happened, as in otc.week.checked.';
COMMENT ON COLUMN otc.events.aggregate_type IS 'What it happened to: a week, a file, a gap, a check, or retention.';
COMMENT ON COLUMN otc.events.payload IS 'The fields of the event; docs/events.md describes them by event type.';
COMMENT ON COLUMN otc.events.created_at IS 'When it was appended.';
COMMENT ON TABLE otc.journal IS 'The id under which the archive has a copy of otc.events; one row.';
COMMENT ON COLUMN otc.journal.only_one IS 'Always true: the table has one row.';
COMMENT ON COLUMN otc.journal.journal_id IS 'The folder of the copy in the archive.';
COMMENT ON TABLE otc.week_state IS 'The processing state of each (week, tier): a projection of otc.events.';
COMMENT ON COLUMN otc.week_state.state IS
    'pending: in the calendar, not yet published. captured: its bytes are archived. normalized: its rows are in '
    'venue_volume. summarized: both summaries are computed from these rows. checked: they are also graded. revised: '
    'its rows have changed since they were summarized and graded. retired: deleted from venue_volume by retention.';
COMMENT ON COLUMN otc.week_state.symbol_summary_at IS
    'When symbol_summary was computed from the present rows; so venue_share_at.';
COMMENT ON COLUMN otc.week_state.checked_at IS 'When the present rows were graded.';
COMMENT ON COLUMN otc.week_state.revised_at IS 'When rows were last found to differ from those of an earlier load.';
COMMENT ON COLUMN otc.week_state.rows IS 'The number of its rows in venue_volume.';
COMMENT ON COLUMN otc.week_state.shares IS 'The sum of its share volume.';
COMMENT ON COLUMN otc.week_state.grade IS 'The newest grade; NULL if it was not graded.';
COMMENT ON COLUMN otc.week_state.score IS 'The newest score.';
COMMENT ON COLUMN otc.week_state.revisions IS 'How often its rows have changed.';
COMMENT ON COLUMN otc.week_state.captured_at IS 'When it was last captured.';
COMMENT ON COLUMN otc.week_state.normalized_at IS 'When its rows were last loaded.';
COMMENT ON COLUMN otc.week_state.venue_share_at IS 'When venue_share was computed from the present rows.';
COMMENT ON COLUMN otc.week_state.retired_at IS 'When retention deleted it from venue_volume.';
COMMENT ON COLUMN otc.week_state.updated_at IS 'When the last event was applied.';
COMMENT ON TABLE otc.file_ledger IS 'The outcome of each file or reply of FINRA: a projection of otc.events.';
COMMENT ON COLUMN otc.file_ledger.file IS 'Its digest; its origin if there were no bytes.';
COMMENT ON COLUMN otc.file_ledger.publications IS
    'The number of publications recorded from it; the row counts are sums over them.';
COMMENT ON COLUMN otc.file_ledger.rejections IS
    'How often it was rejected as a whole; reason is the reason of the last time.';
COMMENT ON COLUMN otc.file_ledger.state IS 'The outcome of the last time: ingested or rejected.';
COMMENT ON COLUMN otc.file_ledger.origin IS 'Where it is from: a URL, or the path of a file.';
COMMENT ON COLUMN otc.file_ledger.digest IS 'SHA-256 of its bytes; NULL if there were none.';
COMMENT ON COLUMN otc.file_ledger.tiers IS 'The tiers that it has rows of.';
COMMENT ON COLUMN otc.file_ledger.first_week IS 'The oldest week that it has rows of.';
COMMENT ON COLUMN otc.file_ledger.last_week IS 'The newest week that it has rows of.';
COMMENT ON COLUMN otc.file_ledger.rows_received IS 'The number of its rows, accepted or not.';
COMMENT ON COLUMN otc.file_ledger.rows_accepted IS 'The number of rows that were accepted.';
COMMENT ON COLUMN otc.file_ledger.rows_rejected IS 'The number of rows that were not accepted.';
COMMENT ON COLUMN otc.file_ledger.reason IS 'Why it was rejected as a whole.';
COMMENT ON COLUMN otc.file_ledger.first_at IS 'When it was first ingested or rejected.';
COMMENT ON COLUMN otc.file_ledger.last_at IS 'When it was last ingested or rejected.';
COMMENT ON TABLE otc.gap_ledger IS
    'Every gap that was reported, open if closed_at is NULL: a projection of otc.events.';
COMMENT ON COLUMN otc.gap_ledger.version IS 'The version of the event that opened it.';
COMMENT ON COLUMN otc.gap_ledger.fetchable IS 'Whether FINRA offered the week when the gap was opened.';
COMMENT ON COLUMN otc.gap_ledger.opened_at IS 'When the gap was first reported.';
COMMENT ON COLUMN otc.gap_ledger.closed_at IS 'When it was found to be closed.';
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
COMMENT ON COLUMN otc.alert.id IS 'Identity.';
COMMENT ON COLUMN otc.alert.dedupe_key IS 'Its subject, event_id and run_id: a failure is recorded once.';
COMMENT ON COLUMN otc.alert.kind IS 'check, run or recovery.';
COMMENT ON COLUMN otc.alert.severity IS 'error or warn.';
COMMENT ON COLUMN otc.alert.week_ending IS 'The week that fails; NULL for a run of several weeks.';
COMMENT ON COLUMN otc.alert.title IS 'The message''s first line.';
COMMENT ON COLUMN otc.alert.body IS 'The message.';
COMMENT ON COLUMN otc.alert.run_id IS 'The Dagster run that failed, or in which the check failed.';
COMMENT ON COLUMN otc.alert.happened_at IS 'When the check or the run failed, or the check passed again.';
COMMENT ON COLUMN otc.alert.recorded_at IS 'When the alert was recorded.';
COMMENT ON COLUMN otc.alert.due_at IS 'When it is sent next, while it is pending.';
COMMENT ON COLUMN otc.alert.attempted_at IS 'When the last attempt to send it began.';
COMMENT ON COLUMN otc.alert.last_error IS 'Why the last attempt failed.';
COMMENT ON COLUMN otc.alert.delivered_at IS 'When every destination had received it.';
COMMENT ON COLUMN otc.alert.resolved_by IS 'The event that records that the check passed again: its id in otc.events.';
COMMENT ON VIEW otc.weekly_summary_agg IS 'Sums of symbol_summary by week, symbol and tier.';
COMMENT ON COLUMN otc.weekly_summary_agg.week IS 'The Friday on which the week ends.';
COMMENT ON VIEW otc.monthly_summary_agg IS 'Sums of weekly_summary_agg by month, symbol and tier.';
COMMENT ON COLUMN otc.monthly_summary_agg.month IS 'The first day of the month in which the weeks end.';
COMMENT ON COLUMN otc.monthly_summary_agg.max_venue_count IS 'The largest venue_count of its weeks.';
COMMENT ON COLUMN otc.monthly_summary_agg.weeks IS 'The number of its weeks in which the symbol traded.';
COMMENT ON VIEW otc.venue_history IS
    'The weeks in a row in which each venue had each MPID, CRD number and name; a week without trades ends none.';
COMMENT ON COLUMN otc.venue_history.first_week IS 'The first of these weeks.';
COMMENT ON COLUMN otc.venue_history.last_week IS 'The last of these weeks.';
COMMENT ON COLUMN otc.venue_history.weeks IS 'The number of them with trades.';
COMMENT ON VIEW otc.newest_week_changes IS
    'The rows of week_changes of the newest week of each tier: T1 is published two weeks before the other tiers.';
COMMENT ON COLUMN otc.newest_week_changes.known_from IS 'When the row was loaded.';
COMMENT ON VIEW otc.revised_volume IS
    'What revisions of FINRA changed, removed and added in venue_volume, beside the rows of today.';
COMMENT ON COLUMN otc.revised_volume.known_from IS 'When the row before the revision was loaded; NULL if there was none.';
COMMENT ON COLUMN otc.revised_volume.known_to IS 'When the revision came.';
COMMENT ON COLUMN otc.revised_volume.change IS 'changed, removed or added.';
COMMENT ON COLUMN otc.revised_volume.share_volume_now IS 'Share volume of the row of today; NULL if there is none.';
COMMENT ON COLUMN otc.revised_volume.trade_count_now IS 'Number of trades of the row of today; NULL if there is none.';
COMMENT ON COLUMN otc.revised_volume.share_volume_change_pct IS 'Share volume of today against that before, in percent.';
COMMENT ON VIEW otc.symbol_history IS
    'The weeks in a row in which each symbol had each tier, issue name and product type.';
COMMENT ON COLUMN otc.symbol_history.first_week IS 'The first of these weeks.';
COMMENT ON COLUMN otc.symbol_history.last_week IS 'The last of these weeks.';
COMMENT ON COLUMN otc.symbol_history.weeks IS 'The number of them with trades.';
COMMENT ON TABLE otc.firm IS
    'The role of each firm and ATS that is known, by a reviewed list in the package; migrate writes it.';
COMMENT ON COLUMN otc.firm.venue_id IS
    'The MPID of an ATS or the CRD number of a firm; ''name:...'' where no document with the number was found.';
COMMENT ON COLUMN otc.firm.name IS 'The name as FINRA writes it; found whatever its case and punctuation.';
COMMENT ON COLUMN otc.firm.role IS
    'wholesaler, bank_desk (of a bank), broker_dealer (another), exchange_affiliated; of an ATS, its operator''s.';
COMMENT ON COLUMN otc.firm.source IS 'The public document that says so.';
COMMENT ON COLUMN otc.firm.reviewed IS 'The day on which the line was reviewed.';
COMMENT ON FUNCTION otc.role_of IS
    'The role of a venue by its venue_id, or else by its venue_name: that of otc.firm, otherwise unattributed.';
COMMENT ON TABLE otc.schema_version IS 'The newest migration that was applied; one row.';
COMMENT ON COLUMN otc.schema_version.version_num IS 'The number of the migration.';
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
    'Compresses chunks again that loads have decompressed, if the week is their last, with the rights of the owner.';
COMMENT ON FUNCTION otc.refresh_aggregates IS
    'Refreshes the continuous aggregates of a week and its month, with the rights of the owner, inside a transaction.';
COMMENT ON TABLE otc.dataset_capture IS
    'A captured period of a data set other than the weekly publications. The newest of a period is effective.';
COMMENT ON COLUMN otc.dataset_capture.id IS 'Identity, in the order of recording.';
COMMENT ON COLUMN otc.dataset_capture.dataset IS 'FINRA''s name of the data set.';
COMMENT ON COLUMN otc.dataset_capture.period IS 'The trading day, settlement date or first day of the month.';
COMMENT ON COLUMN otc.dataset_capture.digest IS 'SHA-256 of its bytes, which the archive has under it.';
COMMENT ON COLUMN otc.dataset_capture.origin IS 'Where its bytes are from.';
COMMENT ON COLUMN otc.dataset_capture.bytes IS 'The number of its bytes.';
COMMENT ON COLUMN otc.dataset_capture.rows_expected IS 'Record-Total: the number of rows that FINRA states.';
COMMENT ON COLUMN otc.dataset_capture.rows_received IS 'The number of its rows, accepted or not.';
COMMENT ON COLUMN otc.dataset_capture.rows_accepted IS 'The number of rows that were accepted.';
COMMENT ON COLUMN otc.dataset_capture.rows_rejected IS
    'The number of rows that were not accepted: those in dataset_rejected.';
COMMENT ON COLUMN otc.dataset_capture.run_id IS 'The Dagster run that recorded it; NULL outside runs.';
COMMENT ON COLUMN otc.dataset_capture.captured_at IS 'When it was recorded.';
COMMENT ON TABLE otc.dataset_rejected IS 'Rows of data sets that were not accepted, verbatim, with the reason.';
COMMENT ON COLUMN otc.dataset_rejected.capture_id IS 'otc.dataset_capture.id.';
COMMENT ON COLUMN otc.dataset_rejected.line IS 'Line of the captured bytes, from 1; the header is line 1.';
COMMENT ON COLUMN otc.dataset_rejected.reason IS 'Why the row was not accepted.';
