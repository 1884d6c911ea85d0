"""What runs without anyone asking: jobs, the Wednesday schedules, sensors for files, revisions, stale weeks, alerts."""
