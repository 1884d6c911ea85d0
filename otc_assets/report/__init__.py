"""The weekly report as a page and as a PDF: figures in sentences, tables and charts, and where the files are.

Reading the figures, and recording that a report was made, is in ``pipeline.report``.
"""

from otc_assets.report.files import Report, find, newest_week, read, save

__all__ = ["Report", "find", "newest_week", "read", "save"]
