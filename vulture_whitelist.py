"""Names that vulture must not report as dead code, with the reason for each.

Only code that something outside the production packages uses is listed. Dead code is deleted instead.
"""

# Called or read by a library.
_.Storage, _.ComputeLogs  # dagster.yaml names the classes
_.defs  # definitions.py: Dagster loads it
_.list_commands, _.__signature__, _.__annotations__  # cli/query.py: Typer reads them
_.config_type  # defs/storage.py: Dagster's interface for configurable classes
_._s3_session  # defs/internals.py: dagster-aws reads it
_.isolation_level  # exporter/database.py: psycopg reads it
_.daemon_threads, _.request_queue_size  # finra/simulator/server.py: socketserver reads them
_.log_message  # finra/simulator/server.py: http.server calls it
_.settings_customise_sources  # settings.py: pydantic-settings calls it
_.secrets_dir  # settings.py: validated there; the files in it are read before it is a field
_.exc_info  # exporter/http.py: an argument that WSGI prescribes
_.should_exit  # exporter/http.py: uvicorn's server reads it

# Read through a dictionary or getattr.
_.stall, _.slow  # finra/simulator/traps.py: the server reads the traps by name
_.rows_received_before  # warehouse/events/payloads.py: a field of an event, written by name
_.captured_at  # warehouse/publication.py: a column of SELECT *
_.happened_at  # warehouse/alerts.py: a value of a statement, bound by name
_.WHOLESALER, _.BANK_DESK, _.BROKER_DEALER, _.EXCHANGE_AFFILIATED  # domain/enums.py: values of the list of firms
_.observed, _.threshold  # domain/quality.py: fields of a finding, which become columns
_.crd, _.updated  # benchmarks: fields that take part in comparing and hashing rows

# For readers.
_.known_until  # warehouse/history.py: the public function for readers of as-of answers
_.concentration, _.coverage, _.describe_venue  # client: users call its methods

# Read by the template of the weekly report.
_.is_simulated, _.caption, _.note  # report: fields of the page and of its tables
_.no_average, _.trading_week, _.own_revisions, _.no_movers, _.headline  # report: sentences and a table
_.handle_starttag, _.handle_startendtag, _.handle_endtag  # domain/quality/report.py: html.parser calls them
_.request_queue_size  # socketserver reads it
