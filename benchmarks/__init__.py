"""Benchmarks of mlpx beside its peers.

``pytest benchmarks --benchmark-json=FILE`` measures, ``python -m benchmarks.report FILE`` tells.

``MLPX_BENCH=quick`` runs everything once at small sizes, which shows that it works and measures nothing;
``MLPX_BENCH=full`` takes the real sizes and some ten minutes. ``MLPX_BENCH_NO_PEERS=1`` leaves every peer out.
"""
