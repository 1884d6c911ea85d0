"""The judgements on which asset checks are based: whether the rows of a week can be trusted.

Which check each of them belongs to, how serious it is, and how findings are combined into a grade is in ``checks``.
"""
