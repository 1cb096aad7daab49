"""The machine that a run uses: processes, device and precision, peak rates, hardware tables, energy meters, signals."""
