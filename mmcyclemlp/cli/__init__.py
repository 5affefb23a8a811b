"""The commands: their arguments, their processes, and a main each, which tools/ and ``mmcyclemlp`` call."""
