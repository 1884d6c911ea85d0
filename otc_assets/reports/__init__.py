"""Reports on the warehouse for people and programs: rows of plain values, which ``cli`` prints."""
