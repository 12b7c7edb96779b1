"""Defaults that keep `make bench` to a few minutes; options of pytest-benchmark override them."""


def pytest_benchmark_update_machine_info(config, machine_info):
    """Names the kernels in the JSON, so that two result files are not compared by mistake."""
    import gateinfer

    machine_info["gateinfer"] = {"version": gateinfer.__version__, "isa": gateinfer.best_isa()}
