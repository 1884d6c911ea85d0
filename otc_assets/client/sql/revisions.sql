-- Rows of venue volume that a revision changed, removed or added, beside the rows of today.
SELECT * FROM otc.revised_volume
