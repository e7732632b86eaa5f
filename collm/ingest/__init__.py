"""Users' files to typed columns: text tables, JSON, parquet; every row that cannot be used is named."""
