-- One row per hypertable: its chunks, the compressed ones, and the bytes of those before and after compression.
-- Compression exists in the community edition only, and its sizes can be asked for only there.
SELECT h.hypertable_name::text AS "table", h.num_chunks AS chunks,
    coalesce(s.number_compressed_chunks, 0) AS compressed_chunks,
    s.before_compression_total_bytes AS bytes_before, s.after_compression_total_bytes AS bytes_after
FROM timescaledb_information.hypertables h
LEFT JOIN LATERAL (
    SELECT * FROM hypertable_compression_stats(format('%I.%I', hypertable_schema, hypertable_name)::regclass)
    WHERE h.compression_enabled) s ON true
WHERE h.hypertable_schema = 'otc'
ORDER BY 1
