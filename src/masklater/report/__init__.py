"""Reports: tables and plots of what runs have measured. Reads folders only."""
