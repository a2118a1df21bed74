"""The PostgreSQL engine of the stores, for several receivers of one name."""
