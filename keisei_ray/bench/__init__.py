"""Benchmarks: `python run.py bench`.

Speed is measured as a ratio: the real code against a plain loop, the least work that any program
would have to do, both in the same run. So a noisy machine matters less.
Names and tables call the plain loop `bare`.

    command      runs the benchmarks that are named and prints their tables
    components   environment, actor, learner, wire and broadcast, each on one core
    end_to_end   a whole training run against the ideal of its plain loops
    gpu          a GPU's numbers checked (gpu_checks), its speed (gpu_rates, device_loops)
    learning     strength over time: training runs from random weights, then matches
    measure      one measured figure, and how two loops are timed in alternation
"""
