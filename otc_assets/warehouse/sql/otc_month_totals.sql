-- The number of rows of a week's monthly data, and of FINRA's own totals among them that are not the sums of its rows by
-- symbol and firm. A kind of total that FINRA does not have in a market is not compared.
WITH named AS (
    SELECT *, CASE summary_type
        WHEN 'OTC_M_SMBL' THEN symbol
        WHEN 'OTC_M_FIRM' THEN coalesce(nullif(firm_crd, '0'), '')
        ELSE ''
    END AS key
    FROM otc.otc_month WHERE week_ending = :week
), stated AS (
    SELECT market, summary_type, key, sum(total_volume) AS volume, sum(total_trades) AS trades
    FROM named WHERE summary_type <> 'OTC_M_SMBL_FIRM' GROUP BY market, summary_type, key
), summed AS (
    SELECT market, of.summary_type, of.key, sum(total_volume) AS volume, sum(total_trades) AS trades
    FROM named
    CROSS JOIN LATERAL (VALUES
        ('OTC_M_SMBL', symbol), ('OTC_M_FIRM', coalesce(nullif(firm_crd, '0'), '')), ('OTC_M_VOL_STATS', '')
    ) AS of (summary_type, key)
    WHERE named.summary_type = 'OTC_M_SMBL_FIRM'
    GROUP BY market, of.summary_type, of.key
)
SELECT (SELECT count(*) FROM named), count(*)
FROM stated FULL JOIN summed USING (market, summary_type, key)
WHERE (market, summary_type) IN (SELECT market, summary_type FROM stated)
    AND (stated.volume, stated.trades) IS DISTINCT FROM (summed.volume, summed.trades);
