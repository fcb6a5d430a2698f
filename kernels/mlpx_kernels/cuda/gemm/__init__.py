"""Matrix products on the device: selection, tiles, cuBLASLt, autotuning."""
