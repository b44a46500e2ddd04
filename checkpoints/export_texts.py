"""Texts of the files that `checkpoints.export` writes, to be filled in with `str.format`."""

EXAMPLE = '''"""Minimise half the sum of squares with the exported optimizer: python example.py"""

import json
from pathlib import Path

import numpy as np
from optimizer import Optimizer

STEPS = {num_steps}
SHAPES = {shapes}
HERE = Path(__file__).parent

with np.load(HERE / "theta.npz", allow_pickle=False) as file:
    theta = dict(file)
constants = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))["constants"]
optimizer = Optimizer(theta, constants, num_steps=STEPS{options})
params = {{name: np.ones(shape, np.float32) for name, shape in SHAPES.items()}}
state = optimizer.init(params)
for step in range(STEPS + 1):
    loss = sum(float(np.sum(np.square(p))) / 2 for p in params.values())
    if step % max(1, STEPS // 10) == 0:
        print(f"step {{step:6d}}  loss {{loss:.6f}}")
    gradients = params  # of this loss
    updates, state = optimizer.update(gradients, state, params, value=loss)
    params = {{name: params[name] + updates[name] for name in params}}
'''

README = """# A learned optimizer in NumPy

The update rule `{rule}` of learned-opt with its weights, in code that needs NumPy alone. It is
meant to be read and to be ported to another framework: the plain form of the equation, a tensor at
a time, and not fast.

| file | |
|---|---|
| `optimizer.py` | the update rule: the class `Optimizer` |
| `common.py` | what it shares with other rules: running statistics, features, networks |
| `theta.npz` | the weights, float32 arrays by their path in the network |
| `manifest.json` | the rule's constants, its inputs in their order, how it was meta-trained |
| `example.py` | a quadratic, minimised: `python example.py` |

## Use

```python
with np.load("theta.npz", allow_pickle=False) as file:
    theta = dict(file)
with open("manifest.json", encoding="utf-8") as file:
    constants = json.load(file)["constants"]
optimizer = Optimizer({arguments})
state = optimizer.init(params)
for ...:
    updates, state = optimizer.update(gradients, state, params, value=loss)
    params = {{name: params[name] + updates[name] for name in params}}
```

`params`, `gradients` and `updates` map names to float32 arrays of any shape; the state is plain
dictionaries and arrays. Nothing is written into.

## The rule

{equation}

## How it is tested

`tests/checkpoints/test_numpy_rules.py` of learned-opt compares every rule with the same rule in
JAX: with random weights, and gradients of scales from 0.001 to 10, ten updates of tensors of ranks
0, 1, 2, 4 and 5 agree to 1e-5, relative to the largest entries of a tensor's updates. The test
fails for faults planted in `common.py`. `tests/checkpoints/test_export.py` runs exported folders
without JAX, and compares their updates as well.

Licence of the weights: {licence}; of the code: Apache-2.0.
"""
