"""Asset checks: what is judged of every week, told to Dagster week by week.

Here: wiring. Not here: the judgement (``domain.quality``, ``domain.gaps``).
"""
