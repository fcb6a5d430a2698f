"""The command line: ``mlpx demo``, ``mlpx doctor``, ``mlpx warmup``, ``mlpx bench``."""
