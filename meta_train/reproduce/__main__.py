"""Reproduce experiments of the papers, and say which of their claims are seen:

python -m meta_train.reproduce EXPERIMENT... --workdir=DIR [--fast] [--seeds=N]

EXPERIMENT is one of these, or `all`:
  influence_balancing, toy_regression, variance, lorenz, learning_rate_schedule,
  many_hyperparameters, l2_regression, control, learned_optimizer

Writes NAME.json and NAME.png of every experiment into DIR, and index.html with all that are
there. The exit status is 0 where every claim was seen, 1 where one was not, 2 for bad input.
"""

from meta_train.interrupts import end_at_once_on_signals

if __name__ == "__main__":
    end_at_once_on_signals("the files of the experiments that were done are written")
    from absl import flags  # after the handlers: what follows imports for seconds

    from meta_train.reproduce import command

    flags.adopt_module_key_flags(command)
    command.run()
