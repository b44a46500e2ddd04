"""The sections of a report beside its training runs, made up: shaped as the real ones are."""


def estimate(value):
    return {"value": value, "low": 0.9 * value, "high": 1.1 * value}


def sections(name, task):
    levels = {"horizon": (0.25, 0.5, 1, 2, 4, 10), "width": (0.25, 0.5, 1, 2, 4)}
    sensitivity = [
        {
            "optimizer": name, "task": task, "axis": axis, "level": level,
            "ratio": estimate(level**0.3), "loss": 1.0, "reference_loss": level**0.3,
        }
        for axis, own in levels.items() for level in own
    ]  # fmt: skip
    sensitivity[-1] = {k: sensitivity[-1][k] for k in ("optimizer", "task", "axis", "level")} | {
        "missing": "no runs"
    }
    cost = [
        {
            "task": task, "contestant": contestant, "update_us": 12.0, "step_us": 100.0,
            "update_ratio": 3.0, "step_ratio": 1.2, "state_bytes": 8.0, "compile_seconds": 1.5,
            "machine": "Linux; cpu",
            **({"wall_clock_speedup": 0.9, "break_even": "1,234"} if contestant == name else {}),
        }
        for contestant in (name, "adam")
    ]  # fmt: skip
    grid = [x / 10 for x in range(-40, 41)]
    behaviour = {
        "optimizer": name,
        "task": task,
        "trajectory": {
            "steps": [10, 20, 30], "rms": [1e-2, 1e-3, 1e-4], "adam_rms": [1e-3] * 3,
            "cosine": [0.9, 0.5, None], "distance": [1.0, 1.5, 2.0],
        },
        "response": {
            "grid": grid,
            "ours": {"gradient": grid, "momentum": [-x for x in grid]},
            "adam": {"gradient": [-x for x in grid], "momentum": [-x for x in grid]},
        },
        "ablation": [
            {"inputs": "g", "ratio": estimate(1.5), "diverged": 0},
            {"inputs": "m", "ratio": None, "diverged": 2},
        ],
    }  # fmt: skip
    return {"cost": cost, "sensitivity": sensitivity, "behaviour": [behaviour]}
