"""Evaluate a learned optimizer beside tuned baselines:

python -m meta_train.evaluate --optimizer=NAME_OR_PATH --suite=NAME --workdir=DIR

Writes report.html, report.md, report.json, report.csv and the raw runs into DIR.
"""

from meta_train.interrupts import end_at_once_on_signals

if __name__ == "__main__":
    end_at_once_on_signals("no report was written")
    from absl import flags  # after the handlers: what follows imports for seconds

    from meta_train.evaluate import evaluate

    flags.adopt_module_key_flags(evaluate)
    evaluate.run()
