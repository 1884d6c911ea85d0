"""Reports the checks of ``domain.checks`` to Dagster, week by week."""
