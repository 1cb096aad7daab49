"""Reports: tables and plots of what runs have measured. Knows folders only."""
