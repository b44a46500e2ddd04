"""`python -m meta_train.evaluate`; see `meta_train.evaluate.evaluate`."""

from meta_train.interrupts import end_at_once_on_signals

if __name__ == "__main__":
    end_at_once_on_signals("no report was written")
    from meta_train.evaluate.evaluate import run  # after the handlers: it imports for seconds

    run()
