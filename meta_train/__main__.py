"""Meta-train an optimizer:

python -m meta_train --workdir=DIR [--preset=NAME] [--config.FIELD=VALUE …]

The same command in the same directory goes on where it was stopped or killed. --helpfull lists
every --config.FIELD with the value that the preset gives it; `meta_train/config.py` says what
each is.
"""

from meta_train.interrupts import end_at_once_on_signals

if __name__ == "__main__":
    end_at_once_on_signals("the same command goes on from what is saved")
    from absl import flags  # after the handlers: what follows imports for seconds

    from meta_train import train

    flags.adopt_module_key_flags(train)
    train.run()
