"""FINRA's OTC transparency data as Dagster assets, keyed by ``week_ending``."""
