"""Several receivers of one name, which share their stores in the database of STORE."""
