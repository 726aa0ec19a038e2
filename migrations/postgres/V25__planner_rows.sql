-- What the planner may expect of functions that return rows. It takes 1,000 for granted, and so reads tables of some thousand
-- rows from end to end to join them to the few that come.

ALTER FUNCTION penstock_windows ROWS 3;
ALTER FUNCTION penstock_take_leases ROWS 10;
ALTER FUNCTION penstock_reclaim ROWS 1;
ALTER FUNCTION penstock_prepare_usage ROWS 1;
ALTER FUNCTION penstock_search ROWS 20;
ALTER FUNCTION penstock_few ROWS 20;
ALTER FUNCTION penstock_matches ROWS 100;
ALTER FUNCTION penstock_facets ROWS 20;
ALTER FUNCTION penstock_ingest_lineage ROWS 100;
