"""The machine a run stands on: processes, device and precision, peak rates, hardware tables, energy meters, signals."""
